-- What a deleted device has left (schema/deleted_devices.py).

-- deleted_devices --
select device_no from deleted_device order by deleted_at

-- forget_deleted_device --
-- A statement of the roller that had read events before they were deleted may write rollups for 5 minutes.
delete from deleted_device
where device_no = $1 and deleted_at < statement_timestamp() - interval '10 min'

-- oldest_month --
-- The month (UTC) of the oldest event of the device $1: one partition.
select month at time zone 'UTC' as first, (month + interval '1 month') at time zone 'UTC' as after
from (select date_trunc('month', ts at time zone 'UTC') as month from event
      where device_no = $1 order by ts limit 1) oldest

-- delete_events --
-- Up to $4 events of the device $1 in the month from $2 to $3; inside one partition a ctid names one row.
delete from event
where device_no = $1 and ts >= $2 and ts < $3 and ctid = any(array(
    select ctid from event where device_no = $1 and ts >= $2 and ts < $3 order by ts limit $4))

-- delete_rows --
-- Up to $2 rows of the device $1 in a table. Returns how many.
with deleted as (
    delete from {table} where ctid = any(array(select ctid from {table} where device_no = $1 limit $2))
    returning 1
)
select count(*) from deleted
