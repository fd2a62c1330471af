-- The newest value of each metric of a device, ordered by (timestamp, event_id).

-- find_device --
-- `closed` only grows: read before the question it is safe, and lets it spare partitions.
select device_no, closed from device, rollup_state where device_id = $1

-- late --
-- The hours that carry a mark may lie in any partition: to plan for them takes longer than all the rest, so it
-- is only done where there are marks.
, late as materialized (
    select hour, array(select metric from known where ts >= hour + interval '1 hour') as newer
    from (select distinct hour from rollup_mark where device_no = $1 and hour < $3) marked
), candidate as (
    select * from known
    union all
    select key, value::numeric, e.ts, e.event_id
    from late join event e
      on e.device_no = $1 and e.ts >= late.hour and e.ts < late.hour + interval '1 hour'
    cross join lateral jsonb_each(e.metrics - late.newer)
)

-- latest_values --
-- 1. name     the metrics that have rollups, one step through the index for each
-- 2. open     back through the raw events since $3, but only to events with a metric not seen yet
-- 3. known    what 1 and 2 lead to: what a rollup holds was sent, even if its hour carries a mark
-- 4. late     where there are marks: their hours, with the metrics that are known to be newer than the hour
-- 5. the newest of what is known and of what the events of those hours say about the other metrics
-- `marked`: there are marks. If 4 was left out then, the answer is none.
with recursive name (metric) as (
    (select metric from rollup where device_no = $1 order by metric limit 1)
    union all
    select (select metric from rollup where device_no = $1 and metric > name.metric order by metric limit 1)
    from name where name.metric is not null
), open (ts, event_id, metrics, seen) as (
    (select ts, event_id, metrics, '{{}}'::text[] from event
     where device_no = $1 and ts >= $3 order by ts desc, event_id desc limit 1)
    union all
    select older.*, seen from (
        select ts, event_id, seen || array(select jsonb_object_keys(metrics)) as seen from open
    ) newer cross join lateral (
        select e.ts, e.event_id, e.metrics from event e
        where device_no = $1 and ts >= $3
          and ts <= newer.ts and (ts < newer.ts or e.event_id < newer.event_id)
          and metrics - newer.seen <> '{{}}'
        order by ts desc, event_id desc limit 1
    ) older
), known (metric, value, ts, event_id) as (
    select name.metric, newest.* from name cross join lateral (
        select last, last_ts, last_id from rollup
        where device_no = $1 and metric = name.metric order by hour desc limit 1
    ) newest
    union all
    select key, value::numeric, ts, event_id from open, jsonb_each(metrics - seen)
) {late}
select exists (select from rollup_mark where device_no = $1 and hour < $3) as marked,
       json_build_object('device_id', $2::text, 'metrics', coalesce(json_object_agg(metric,
           json_build_object('value', to_double(value), 'timestamp', rfc3339(ts), 'event_id', event_id)
           order by metric), '{{}}'))::text as body
from (select distinct on (metric) * from {candidates} order by metric, ts desc, event_id desc) newest
