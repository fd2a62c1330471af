-- Back-tests: stored events as a rule would have got them.

-- backtest_facts --
-- The floor of raw events, the device $1 (null: all of them), and the longest interval set for a device or its
-- profile, which bounds how far back a run may begin. $2: DEFAULT_PROFILE.
select floor, statement_timestamp() as now,
       (select device_no from device where device_id = $1) as device_no,
       (select max(coalesce(device.interval_s, profile.interval_s))
        from device left join profile on profile.name = coalesce(device.profile, $2)
        where $1::text is null or device_id = $1) as interval_s_max
from rollup_state

-- estimate_events --
-- The planner's estimate.
explain (format json)
select from event
where ts >= $1 and ts < $2 and ($3::int is null or device_no = $3) and ($4::text is null or tags @> array[$4])

-- device_intervals --
-- The intervals set for the devices or their profiles. $2: DEFAULT_PROFILE.
select device_no, coalesce(device.interval_s, profile.interval_s) as interval_s
from device left join profile on profile.name = coalesce(device.profile, $2)
where ($1::int is null or device_no = $1) and coalesce(device.interval_s, profile.interval_s) is not null

-- begin_reading --
begin read only; set local jit = off

-- readings --
-- The values of the metric $1 in [$2, $3), of the device $4 (null: all), with the tag $5 (null: any), in the order of
-- evaluation.
select device_no, ts, (metrics -> $1)::float8
from event
where ts >= $2 and ts < $3 and ($4::int is null or device_no = $4) and metrics ? $1
  and ($5::text is null or tags @> array[$5])
order by device_no, ts, event_id

-- receipts --
-- The receipts of the metric $1 in [$2, $3), in their order; $6 and $7 bound the event time.
select device_no, received_at, 0::float8
from event
where ts >= $6 and ts < $7 and received_at >= $2 and received_at < $3
  and ($4::int is null or device_no = $4) and metrics ? $1 and ($5::text is null or tags @> array[$5])
order by device_no, received_at

-- event_ids --
-- The ids of events by device $1, time $2 and rank $3 among those of the same time, of the metric $4 and the tag $5.
select wanted.device_no, wanted.at, wanted.rank, (
    select event_id from event e
    where e.device_no = wanted.device_no and e.ts = wanted.at and e.metrics ? $4 and ($5::text is null or e.tags @> array[$5])
    order by e.event_id offset wanted.rank limit 1) as event_id
from unnest($1::int[], $2::timestamptz[], $3::int[]) as wanted (device_no, at, rank)

-- device_ids --
select device_no, device_id from device where device_no = any($1::int[])
