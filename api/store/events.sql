-- Events. The server writes the bodies as JSON text, so that a large answer does not block the event loop.

-- floor_of_raw_events --
-- Raw events before it are dropped, or will be soon.
select floor from rollup_state

-- event_body --
-- Part of the next two. Written by hand, it takes a third less than row_to_json.
format('{{"event_id":%s,"device_id":"%s","timestamp":"%s","metrics":%s,"tags":%s,"seq":%s,"received_at":"%s"}}',
       to_json(event_id), device_id, rfc3339(ts), {metrics}, to_json(page.tags), coalesce(seq::text, 'null'),
       rfc3339(received_at))

-- device_events --
-- The events of the device $1 from {start} to $2, newest first, after the key ($3, $4); no row if there is no such device.
-- `unusual`: a number may have another form in JSON than in PostgreSQL, as json_metrics says. It looks at each event,
-- which takes a third of the time; so it is left out at first. If it was, `unusual` bodies are invalid.
select coalesce(bodies, '{{}}') as bodies, unusual
from device cross join lateral (
    select array_agg({body}) as bodies, string_agg(numbers, '') ~ '": -?([0-9]{{16}}|0[.]0{{6}})' as unusual
    from (
        select *, metrics::text as numbers from event
        where device_no = device.device_no and ts >= {start} and ts < $2 and (ts < $3 or event_id < $4)
        order by ts desc, event_id desc
        limit $5
    ) page
) found
where device_id = $1

-- search_events --
-- All devices, newest first, after a key. The condition is written exactly as in the index event_tags.
select ts, event_id, device_no, {body} as body
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
