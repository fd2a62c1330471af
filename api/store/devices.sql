-- Devices with their registration, presence and newest values.

-- find_device --
select device_no, device_id, profile from device where device_id = $1

-- presence_columns --
-- Part of the next three: state, and the interval that rules the present silence, with its source.
state, rfc3339(since) as since, reason, rfc3339(last_seen) as last_seen,
    round(coalesce(sleep_s, presence.interval_s, learned_s)::numeric, 3)::float8 as expected_interval_s,
    case when sleep_s is not null then 'announced'
         when device.interval_s is not null then 'device'
         when presence.interval_s is not null then 'profile'
         when learned_s is not null then 'learned'
         else 'none' end as source,
    flapping

-- completeness_percent --
-- Part of the next two: of the last 24 hours, from a whole hour on, which share of the events by seq was received
-- (api/aggregate/completeness.sql). Of the events since {closed}, the end of the hours with rollups, only the newest
-- :newest_events are read, so that a page takes milliseconds; older ones follow with their rollup, and so do late ones.
(select trunc(100.0 * sum(received) / nullif(sum(received + missing), 0), 2)::float8
 from (
    select at, received - case when step = 0 then 1 else 0 end as received,
           missing + case when step between 2 and :seq_step_max then step - 1 else 0 end as missing
    from (
        select at, received, missing, case when linked then first - lag(last) over (order by at, first) end as step
        from (
            select hour as at, first, last, received, missing, true as linked
            from seq_rollup where device_no = device.device_no and hour < {closed} and hour >= coalesce(
                (select hour from seq_rollup before
                 where before.device_no = device.device_no and hour < first_hour and hour < {closed}
                 order by hour desc limit 1), '-infinity')
            union all
            select ts, seq, seq, 1, 0, n < :newest_events
            from (select ts, seq, row_number() over (order by ts desc, seq desc) as n
                  from (select ts, seq from event where device_no = device.device_no and ts >= {closed}
                        order by ts desc limit :newest_events) newest) numbered
            where seq is not null
        ) part
    ) linked
    where at >= first_hour
 ) counted) as completeness_percent

-- list_devices --
select device_id, row_to_json(shown)::text as body
from (
    select device_id, name, coalesce(profile, $1) as profile, tags, attributes, device.interval_s, tz,
           registered, rfc3339(created_at) as created_at, {presence},
           (select count(*) from incident
            where incident.device_no = device.device_no and resolved_at is null) as open_incidents,
           coalesce(reused_id.events, 0) as reused_ids, rfc3339(reused_id.last_at) as reused_ids_at,
           {completeness}
    from device join presence using (device_no) left join reused_id using (device_no)
    cross join date_add(date_trunc('hour', statement_timestamp(), 'UTC'), '-24 hours') as first_hour
    where device_id > $2
      and ($3::text is null or state = $3)
      and ($4::text is null or tags @> array[$4])
      and ($5::text is null or strpos(lower(device_id), lower($5)) > 0
           or strpos(lower(name), lower($5)) > 0)
    order by device_id
    limit $6
) shown
order by device_id

-- one_device --
select row_to_json(shown)::text as body, (select closed from rollup_state) as closed
from (
    select device_id, name, coalesce(profile, $1) as profile, tags, attributes, device.interval_s, tz,
           registered, rfc3339(created_at) as created_at, {presence},
           (select count(*) from incident
            where incident.device_no = device.device_no and resolved_at is null) as open_incidents,
           coalesce(reused_id.events, 0) as reused_ids, rfc3339(reused_id.last_at) as reused_ids_at,
           {completeness}
    from device join presence using (device_no) left join reused_id using (device_no)
    cross join date_add(date_trunc('hour', statement_timestamp(), 'UTC'), '-24 hours') as first_hour
    where device_id = $2
) shown

-- one_presence --
select row_to_json(shown)::text
from (
    select device_id, {presence}
    from device join presence using (device_no)
    where device_id = $1
) shown

-- presence_history --
-- The changes of presence of the device $1, the newest first, with `since` from $2 to $3, after the key ($4, $5).
-- They are in the outbox: the order of its blocks is that of the commits of one device.
select block, n, (
    select row_to_json(shown)::text
    from (select feed.first_id + n as id, device_id, state, body -> 'since' as since, body -> 'reason' as reason,
                 body -> 'last_seen' as last_seen) shown) as body
from (
    select * from outbox
    where device_id = $1 and kind = 'presence' and rule_id is null and (block, n) < ($4, $5)
      and (body ->> 'since')::timestamptz >= $2 and (body ->> 'since')::timestamptz < $3
    order by block desc, n desc
    limit $6
) change join feed using (block)
order by block desc, n desc

-- fleet --
-- The number of devices per state and in all, and of open incidents.
select row_to_json(fleet)::text
from (
    select (select count(*) from presence) as total,
           (select ('{' || string_agg(to_json(state) || ':' || coalesce(devices, 0), ',' order by place) || '}')::json
            from unnest($1::text[]) with ordinality as known (state, place)
            left join (select state, count(*) as devices from presence group by state) counted using (state)) as states,
           (select count(*) from presence where flapping) as flapping,
           (select count(*) from incident where resolved_at is null) as open_incidents
) fleet
