-- Rollups: how they are kept. scheduler/rollups.py tells the protocol.

-- lock_rollups --
-- One roller at a time; until this session unlocks or ends.
select pg_try_advisory_lock(:rollups_lock)

-- take_time_and_memory --
-- Enough memory to group a statement's readings without sorting them: two thirds of the time. Nobody waits for
-- its locks, and what it cannot finish in time would stay unfinished for ever: an hour of a device that sends
-- 1,000 events a second takes a minute.
set work_mem = '64MB';
set statement_timeout = '5min';
set transaction_timeout = '5min'

-- unlock_rollups --
select pg_advisory_unlock(:rollups_lock)

-- move_closing --
-- To $1, or to the last whole hour of a little while ago: what is only a little late needs no mark.
update rollup_state
set closing = greatest(closing, coalesce($1::timestamptz,
                                         date_trunc('hour', clock_timestamp() - interval '5 min', 'UTC')))
returning closing, closed

-- take_number --
-- Commits alone. Every transaction with a lower number began to write before it.
select pg_current_xact_id()::text

-- writers_ended --
-- Whether every transaction with a lower number than $1 has ended.
select pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8

-- devices_after --
select device_no from device where device_no > $1 order by device_no limit $2

-- marked_hours --
select device_no, hour from rollup_mark where hour < $1 group by device_no, hour
order by device_no, hour limit $2

-- roll_hours --
-- Sums hours up anew from their events and takes their marks away, in one statement: of the marks it sees it
-- sees the events, too; a mark that it does not see stays. For each device the hours of $3 from one on; $4 and
-- $5 bound them all, so that the plan holds few partitions.
with span as materialized (
    select device_no, start, start + $3::interval as stop
    from unnest($1::int[], $2::timestamptz[]) as given (device_no, start)
), unmarked as (
    delete from rollup_mark m using span
    where m.device_no = span.device_no and m.hour >= span.start and m.hour < span.stop
)
insert into rollup (device_no, metric, hour, count, sum, squares, min, max, first, first_ts, first_id,
                    last, last_ts, last_id)
select device_no, metric, hour, count(*), sum(value), sum(value * value), min(value), max(value),
       (array_agg(value order by ts, event_id))[1], min(ts), (array_agg(event_id order by ts, event_id))[1],
       (array_agg(value order by ts, event_id))[count(*)], max(ts),
       (array_agg(event_id order by ts, event_id))[count(*)]
from (
    select span.device_no, date_bin('1 hour', ts, 'epoch') as hour, ts, event_id,
           reading.key as metric, reading.value::numeric as value
    from span
    cross join lateral (
        select ts, event_id, metrics from event
        where device_no = span.device_no and ts >= span.start and ts < span.stop and ts >= $4 and ts < $5
        offset 0) event  -- span by span: no other plan is as good
    cross join lateral jsonb_each(metrics) reading
) readings
group by device_no, metric, hour
on conflict (device_no, metric, hour) do update set
    count = excluded.count, sum = excluded.sum, squares = excluded.squares,
    min = excluded.min, max = excluded.max,
    first = excluded.first, first_ts = excluded.first_ts, first_id = excluded.first_id,
    last = excluded.last, last_ts = excluded.last_ts, last_id = excluded.last_id

-- move_closed --
update rollup_state set closed = $1 where closed < $1
