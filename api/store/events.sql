-- Questions of the API. Bodies are written by the server, so that a large answer stalls no loop.

-- find_device --
select device_no, device_id, profile from device where device_id = $1

-- floor_of_raw_events --
-- Raw events before it are gone or about to go.
select floor from rollup_state

-- device_events --
-- Newest first, from a key on.
select ts, event_id, (select row_to_json(shown) from (
    select event_id, $2::text as device_id, rfc3339(ts) as timestamp, metrics, tags, seq,
           rfc3339(received_at) as received_at) shown)::text as body
from event
where device_no = $1 and ts >= $3 and ts < $4
  and ts <= $5 and (ts < $5 or event_id < $6)
order by ts desc, event_id desc
limit $7

-- search_events --
-- Newest first, from a key on, of all devices. The condition is spelt as the index event_tags has it.
select ts, event_id, device_no, (select row_to_json(shown) from (
    select event_id, device_id, rfc3339(ts) as timestamp, metrics, page.tags, seq,
           rfc3339(received_at) as received_at) shown)::text as body
from (
    select * from event
    where array_to_tsvector(tags) @@ $1::text::tsquery and ts >= $2 and ts < $3
      and ts <= $4 and (ts < $4 or (event_id, device_no) < ($5, $6))
    order by ts desc, event_id desc, device_no desc
    limit $7
) page join device using (device_no)
order by ts desc, event_id desc, device_no desc

-- device_metrics --
-- Oldest first, the first $5 of the range.
select row_to_json(answer)::text from (
    select $2::text as device_id, count(*) > $5 as truncated,
           coalesce(json_agg(point order by ts, event_id) filter (where n <= $5), '[]') as points
    from (
        select ts, event_id, row_number() over (order by ts, event_id) as n,
               (select row_to_json(shown) from (select rfc3339(ts) as timestamp, metrics) shown) as point
        from event
        where device_no = $1 and ts >= $3 and ts < $4
        order by ts, event_id
        limit $5 + 1
    ) page
) answer

-- profile_metrics --
select jsonb_object_keys(metrics) as metric from profile where name = $1 order by 1

-- list_devices --
select device_id, row_to_json(shown)::text as body
from (
    select device_id, name, coalesce(profile, $1) as profile, tags, device.interval_s,
           registered, rfc3339(created_at) as created_at, state, rfc3339(since) as since, reason,
           rfc3339(last_seen) as last_seen
    from device join presence using (device_no)
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
select row_to_json(shown)::text
from (
    select device_id, name, coalesce(profile, $1) as profile, tags, device.interval_s,
           registered, rfc3339(created_at) as created_at, state, rfc3339(since) as since, reason,
           rfc3339(last_seen) as last_seen
    from device join presence using (device_no)
    where device_id = $2
) shown

-- one_presence --
select row_to_json(shown)::text
from (
    select device_id, state, rfc3339(since) as since, reason, rfc3339(last_seen) as last_seen
    from device join presence using (device_no)
    where device_id = $1
) shown

-- list_rejected --
-- Newest first, below a number.
select rejected_id, (select row_to_json(shown) from (
    select rejected_id as id, rfc3339(received_at) as received_at, door, device_id, reason, detail, item,
           octet_length(payload) as size_bytes, rfc3339(replayed_at) as replayed_at) shown)::text as body
from rejected
where rejected_id < $1
  and ($2::text is null or device_id = $2)
  and ($3::text is null or reason = $3)
  and ($4::text is null or door = $4)
  and ($5::timestamptz is null or received_at >= $5)
  and ($6::timestamptz is null or received_at < $6)
  and ($7::bool is null or (replayed_at is not null) = $7)
order by rejected_id desc
limit $8

-- one_rejected --
select payload, (select row_to_json(shown) from (
    select rejected_id as id, rfc3339(received_at) as received_at, door, device_id, reason, detail, item,
           octet_length(payload) as size_bytes, rfc3339(replayed_at) as replayed_at) shown)::text as body
from rejected where rejected_id = $1
