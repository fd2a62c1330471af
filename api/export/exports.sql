-- Exports: slices of events, as text that the server writes.

-- export_beginning --
-- The floor of raw events, and the months that hold any (UTC, oldest first). A partition that holds a
-- committed row is larger than nothing.
select floor, array(
    select (to_timestamp(right(relname, 7), 'YYYY_MM') at time zone 'UTC') at time zone 'UTC'
    from pg_inherits join pg_class on oid = inhrelid
    where inhparent = 'event'::regclass and pg_relation_size(inhrelid) > 0
    order by relname) as months
from rollup_state

-- export_slice --
-- The next events of [$1, $2) after the key ($3, $4, $5): at most $6, and no more of them than make about
-- $7 bytes. Of devices $8, with tags as the tsquery $9 asks and any metric of $10 (null: all). First those of the key's
-- device, then those of the next ones: two ranges of the index, where one comparison of rows would read all
-- of a month. Metrics are looked at after the limit: no index finds them, and a slice must end in time.
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
), weighed as (
    select *, row_number() over so_far as n, count(*) over () as found,
           sum((200 + octet_length(tags::text)) * (select count(*) from jsonb_object_keys(metrics)))
               over so_far as weight
    from candidate
    window so_far as (order by device_no, ts, event_id rows unbounded preceding)
), slice as materialized (
    select * from weighed
    where n = 1 or weight <= $7
), shown as materialized (
    select n, event_id, device_id, rfc3339(ts) as timestamp, slice.tags, seq,
           rfc3339(received_at) as received_at,
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
    from shown, lateral (select event_id, device_id, timestamp, metrics, tags, seq, received_at) event
    where $11 = 'ndjson'
    union all
    select n, head || key || colon || value::double precision || tail
    from quoted, jsonb_each(metrics)
)
select (select floor from rollup_state) as floor, device_no, ts, event_id, found = $6 or n < found as more,
       (select convert_to(string_agg(text, '' order by n), 'UTF8') from line) as body
from (values (1)) always left join (select * from slice order by n desc limit 1) last on true

-- export_devices --
select device_no from device where device_id = any($1::text[]) order by device_no
