-- The newest values of devices.

-- late --
-- The marked hours may lie in any partition. Planning for them takes longer than everything else together, so
-- this part is only added where there are marks.
, late as materialized (
    select hour, array(select metric from known where ts >= hour + interval '1 hour') as newer
    from (select distinct hour from rollup_mark where device_no = (select device_no from asked) and hour < {closed}) marked
), late_value as (
    select key, value::numeric, e.ts, e.event_id
    from late join event e
      on e.device_no = (select device_no from asked) and e.ts >= late.hour and e.ts < late.hour + interval '1 hour'
    cross join lateral jsonb_each(e.metrics - late.newer)
)

-- latest_values --
-- The newest value of each metric of the device $1, ordered by (timestamp, event_id); no row if there is no such
-- device. {closed}: not after the end of the hours with rollups.
-- 1. known    the metrics that have rollups and their newest value, with one step through the index for each: a
--             rollup's value was really sent, even if its hour is marked
-- 2. open     back through the raw events since {closed}, but only to events with a metric not seen yet; it begins with
--             an event that does not exist, so that the planner meets the partitions only once
-- 3. late     if there are marks: the events of their hours, without metrics that are known to be newer
-- 4. the newest value among those of all three
-- `marked`: there are marks. `unusual`: a number may have another form in JSON than in PostgreSQL. If part 3 or
-- json_number was left out then, the body is invalid, and so it is if `closed` is before {closed}.
with recursive asked as materialized (
    select device_no from device where device_id = $1
), known (metric, value, ts, event_id) as (
    (select metric, last, last_ts, last_id from rollup
     where device_no = (select device_no from asked) order by metric desc, hour desc limit 1)
    union all
    select before.* from known cross join lateral (
        select metric, last, last_ts, last_id from rollup
        where device_no = (select device_no from asked) and metric < known.metric
        order by metric desc, hour desc limit 1
    ) before
), open (ts, event_id, metrics, seen) as (
    select 'infinity'::timestamptz, '' collate "C", '{{}}'::jsonb, '{{}}'::text[]
    union all
    select older.*, seen from (
        select ts, event_id, seen || array(select jsonb_object_keys(metrics)) as seen from open
    ) newer cross join lateral (
        select e.ts, e.event_id, e.metrics from event e
        where device_no = (select device_no from asked) and ts >= {closed}
          and ts <= newer.ts and (ts < newer.ts or e.event_id < newer.event_id)
          and metrics - newer.seen <> '{{}}'
        order by ts desc, event_id desc limit 1
    ) older
) {late}
select (select closed from rollup_state) as closed,
       exists (select from rollup_mark where device_no = (select device_no from asked) and hour < {closed}) as marked,
       values.unusual, '{{"device_id":"' || $1::text || '","metrics":{{' || coalesce(values.body, '') || '}}}}' as body
from asked cross join (
    select bool_or(abs(value) >= 1e15 or abs(value) < 1e-4 and scale(value) > 6) as unusual,
           string_agg(format('%s:{{"value":%s,"timestamp":"%s","event_id":%s}}',
                             to_json(metric), {number}, rfc3339(ts), to_json(event_id)), ',' order by metric) as body
    from (
        select distinct on (metric) * from (
            select * from known
            union all
            select key, value::numeric, ts, event_id from open, jsonb_each(metrics - seen)
            {late_values}
        ) candidate
        order by metric, ts desc, event_id desc
    ) newest
) values

-- find_devices --
-- The devices after the id $1 that meet all conditions which are not null: one of the ids $2, with all of the tags
-- $3 in the registry, in one of the states $4, with the text $5 in id or name.
select device_id
from device join presence using (device_no)
where device_id > $1
  and ($2::text[] is null or device_id = any($2))
  and ($3::text[] is null or tags @> $3)
  and ($4::text[] is null or state = any($4))
  and ($5::text is null or strpos(lower(device_id), lower($5)) > 0
       or strpos(lower(name), lower($5)) > 0)
order by device_id
limit $6

-- closed_hour_and_marks --
-- `closed` as in closed_hour (api/store/closed_hour.sql); `marked`: one of the devices $1 has a late event without rollup.
select closed, exists (
    select from device join rollup_mark using (device_no) where device_id = any($1) and hour < closed
) as marked
from rollup_state

-- late_of_many --
-- The newest :recent_events of each device in its marked hours. As with `late`, planning for them is only worth it
-- where there are marks.
union all
select asked.device_no, late.ts, late.event_id, late.metrics
from asked cross join lateral (
    select e.ts, e.event_id, e.metrics
    from (select distinct hour from rollup_mark where device_no = asked.device_no and hour < $2) marked
    cross join lateral (
        select ts, event_id, metrics from event
        where device_no = asked.device_no and ts >= marked.hour and ts < marked.hour + interval '1 hour'
        order by ts desc, event_id desc limit :recent_events
    ) e
    order by marked.hour desc, e.ts desc, e.event_id desc limit :recent_events
) late

-- latest_of_many --
-- The newest value of each metric of the devices $1, of the metrics $3 unless they are null:
-- 1. newest   the newest event since $2, the end of the hours with rollups
-- 2. recent   that event, those of the newest :recent_events since $2 that have a metric which it has not, and
--             late_of_many where there are marks
-- 3. known    the metrics that have rollups and their newest value, with one step through the index for each
-- 4. the newest value among those of 2 and, for metrics that 1 does not have, those of 3
with recursive asked as materialized (
    select device_no, device_id from device where device_id = any($1)
), newest as materialized (
    select device_no, last.*, array(select jsonb_object_keys(last.metrics)) as names
    from asked cross join lateral (
        select ts, event_id, metrics from event
        where device_no = asked.device_no and ts >= $2 order by ts desc, event_id desc limit 1
    ) last
), recent as (
    select device_no, ts, event_id, metrics from newest
    union all
    select newest.device_no, older.ts, older.event_id, older.metrics - names
    from newest cross join lateral (
        select ts, event_id, metrics from event
        where device_no = newest.device_no and ts >= $2 order by ts desc, event_id desc limit :recent_events
    ) older
    where older.metrics - names <> '{{}}'
    {late}
), known (device_no, metric, value, ts, event_id) as (
    select asked.device_no, newest.* from asked cross join lateral (
        select metric, last, last_ts, last_id from rollup
        where device_no = asked.device_no order by metric desc, hour desc limit 1
    ) newest
    union all
    select known.device_no, before.* from known cross join lateral (
        select metric, last, last_ts, last_id from rollup
        where device_no = known.device_no and metric < known.metric order by metric desc, hour desc limit 1
    ) before
), latest as (
    select distinct on (device_no, metric) * from (
        select device_no, key as metric, value::numeric, ts, event_id from recent cross join lateral jsonb_each(metrics)
        union all
        select known.* from known left join newest using (device_no)
        where (known.metric = any(names)) is not true
    ) candidate
    where $3::text[] is null or metric = any($3)
    order by device_no, metric, ts desc, event_id desc
)
select device_id, '{{' || string_agg(
    to_json(metric) || ':{{"value":' || json_number(value) || ',"timestamp":"' || rfc3339(ts)
        || '","event_id":' || to_json(event_id) || '}}', ',' order by metric) || '}}' as metrics
from latest join asked using (device_no)
group by device_id
