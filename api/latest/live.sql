-- The newest event of each device, for those who watch.

-- count_devices --
-- Up to $1: whether the fleet is small enough does not need a count of all.
select count(*) from (select from device limit $1) devices

-- newer_events --
-- The newest event since $5 of each device, if it is newer than the one known: ($3, $4) of the device with the number
-- $2; a device that was forgotten and speaks again has another number. Of the devices $1 alone, unless they are null.
select device_id, device.device_no, newest.ts, newest.event_id, (select row_to_json(shown) from (
    select newest.event_id, device_id, rfc3339(newest.ts) as timestamp, json_metrics(metrics) as metrics, newest.tags,
           seq, rfc3339(received_at) as received_at) shown)::text as body
from device
left join unnest($2::int[], $3::timestamptz[], $4::text[]) known (device_no, ts, event_id) using (device_no)
cross join lateral (
    select * from event
    where device_no = device.device_no and ts >= $5 order by ts desc, event_id desc limit 1
) newest
where ($1::text[] is null or device_id = any($1))
  and (known.ts is null or (newest.ts, newest.event_id) > (known.ts, known.event_id))
