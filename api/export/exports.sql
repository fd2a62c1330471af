-- Exports: slices of events as text, which the server writes.

-- floor_and_months --
-- The floor of raw events, and the months with events (UTC, oldest first). A partition with a committed row has
-- a size above zero.
select floor, array(
    select (to_timestamp(right(relname, 7), 'YYYY_MM') at time zone 'UTC') at time zone 'UTC'
    from pg_inherits join pg_class on oid = inhrelid
    where inhparent = 'event'::regclass and pg_relation_size(inhrelid) > 0
    order by relname) as months
from rollup_state

-- export_slice --
-- The next events of [$1, $2) after the key ($3, $4, $5): at most $6 events and about $7 bytes, of the devices $8,
-- with tags that match the tsquery $9 and any of the metrics $10 (null: all), in the format $11. The events of the
-- key's device come first, then those of the next devices: these are two ranges of the index, while one row
-- comparison would read a whole month. Metrics are filtered after the limit: no index finds them, and a slice
-- must end in time.
with same_device as materialized (
    select * from event
    where device_no = $3 and ts >= $4 and ts < $2 and (ts > $4 or event_id > $5)
      and ($8::int[] is null or device_no = any($8)) and ($9::text is null or array_to_tsvector(tags) @@ $9::text::tsquery)
    order by device_no, ts, event_id
    limit $6
), next_devices as (
    select * from event
    where device_no > $3 and ts >= $1 and ts < $2
      and ($8::int[] is null or device_no = any($8)) and ($9::text is null or array_to_tsvector(tags) @@ $9::text::tsquery)
    order by device_no, ts, event_id
    limit $6
), candidate as (
    select * from same_device
    union all
    (select * from next_devices
     order by device_no, ts, event_id
     limit $6 - (select count(*) from same_device))
), sized as (
    select *, row_number() over so_far as n, count(*) over () as found,
           sum((200 + octet_length(tags::text)) * (select count(*) from jsonb_object_keys(metrics)))
               over so_far as bytes_so_far
    from candidate
    window so_far as (order by device_no, ts, event_id rows unbounded preceding)
), slice as materialized (
    select * from sized
    where n = 1 or bytes_so_far <= $7
), shown as materialized (
    select n, event_id, device_id, slice.tags, seq,
           case $11::text when 'csv' then rfc3339_us(ts) else rfc3339(ts) end as timestamp,
           case $11::text when 'csv' then rfc3339_us(received_at) else rfc3339(received_at) end as received_at,
           case when $10::text[] is null then metrics else
               (select jsonb_object_agg(key, value) from jsonb_each(metrics) where key = any($10)) end as metrics
    from slice join device using (device_no)
    where $10::text[] is null or metrics ?| $10
), quoted as materialized (
    select n, metrics, case $11::text
        when 'csv' then device_id || ',' || case when event_id ~ '[",]' then '"' || replace(event_id, '"', '""') || '"'
                                                 else event_id end || ',' || timestamp || ','
        else '{"device_id":"' || device_id || '","event_id":' || to_json(event_id)
             || ',"timestamp":"' || timestamp || '","metric":"' end as head,
        case $11 when 'csv' then ',' else '","value":' end as colon,
        case $11
        when 'csv' then ',"' || replace(to_json(tags)::text, '"', '""') || '",' || coalesce(seq::text, '')
                        || ',' || received_at || e'\n'
        else ',"tags":' || to_json(tags) || ',"seq":' || coalesce(seq::text, 'null')
             || ',"received_at":"' || received_at || e'"}\n' end as tail
    from shown
    where $11 <> 'ndjson'
), line as (
    select n, row_to_json(event)::text || e'\n' as text
    from shown, lateral (select event_id, device_id, timestamp, json_metrics(metrics) as metrics, tags, seq, received_at) event
    where $11 = 'ndjson'
    union all
    select n, head || key || colon || json_number(value::numeric) || tail
    from quoted, jsonb_each(metrics)
)
select (select floor from rollup_state) as floor, device_no, ts, event_id, found = $6 or n < found as more,
       (select convert_to(string_agg(text, '' order by n), 'UTF8') from line) as body
from (values (1)) one_row left join (select * from slice order by n desc limit 1) last on true

-- export_devices --
select device_no from device where device_id = any($1::text[]) order by device_no
