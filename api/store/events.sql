-- Events. The server writes the bodies as JSON text, so that a large answer does not block the event loop.

-- floor_of_raw_events --
-- Raw events before it are dropped, or will be soon.
select floor from rollup_state

-- device_events --
-- Newest first, after a key.
select ts, event_id, (select row_to_json(shown) from (
    select event_id, $2::text as device_id, rfc3339(ts) as timestamp, json_metrics(metrics) as metrics, tags, seq,
           rfc3339(received_at) as received_at) shown)::text as body
from event
where device_no = $1 and ts >= $3 and ts < $4
  and ts <= $5 and (ts < $5 or event_id < $6)
order by ts desc, event_id desc
limit $7

-- search_events --
-- All devices, newest first, after a key. The condition is written exactly as in the index event_tags.
select ts, event_id, device_no, (select row_to_json(shown) from (
    select event_id, device_id, rfc3339(ts) as timestamp, json_metrics(metrics) as metrics, page.tags, seq,
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
-- The first $5 points of the range, oldest first.
select row_to_json(answer)::text from (
    select $2::text as device_id, count(*) > $5 as truncated,
           ('[' || coalesce(string_agg(point::text, ',' order by ts, event_id) filter (where n <= $5), '')
            || ']')::json as points
    from (
        select ts, event_id, row_number() over (order by ts, event_id) as n,
               (select row_to_json(shown)
                from (select rfc3339(ts) as timestamp, json_metrics(metrics) as metrics) shown) as point
        from event
        where device_no = $1 and ts >= $3 and ts < $4
        order by ts, event_id
        limit $5 + 1
    ) page
) answer
