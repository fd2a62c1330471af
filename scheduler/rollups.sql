-- Rollups: scheduler/rollups.py describes the protocol.

-- lock_rollups --
-- Allows one roller at a time; held until this session unlocks it or ends.
select pg_try_advisory_lock(:rollups_lock)

-- set_session_limits --
-- 64 MB are enough to group the readings of a statement without sorting them, which would take two thirds of
-- the time. An hour of a device that sends 1,000 events a second takes a minute: with a lower limit it would
-- never finish, and no one waits for the locks of the roller.
set work_mem = '64MB';
set statement_timeout = '5min';
set transaction_timeout = '5min'

-- unlock_rollups --
select pg_advisory_unlock(:rollups_lock)

-- move_closing --
-- Moves to $1, or to the last whole hour of 5 minutes ago, so that slightly late events need no mark.
update rollup_state
set closing = greatest(closing, coalesce($1::timestamptz,
                                         date_trunc('hour', clock_timestamp() - interval '5 min', 'UTC')))
returning closing, closed

-- take_number --
-- Runs in its own transaction. Every transaction with a lower number began to write before it.
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
-- Computes hours again from their events and deletes their marks, in one statement: it sees the events of
-- every mark that it sees, and a mark that it does not see stays. For each device of $1 it takes the span $3
-- from its start in $2; $4 and $5 bound all spans, so that the plan contains few partitions.
-- seq_rollup: a step to a smaller seq or beyond seq_step_max begins a new run, and a step of 0 is a repetition.
with span as materialized (
    select device_no, start, start + $3::interval as stop
    from unnest($1::int[], $2::timestamptz[]) as given (device_no, start)
), unmarked as (
    delete from rollup_mark m using span
    where m.device_no = span.device_no and m.hour >= span.start and m.hour < span.stop
), seq_rolled as (
    insert into seq_rollup (device_no, hour, first, last, received, missing)
    select device_no, hour, max(seq) filter (where step is null), max(seq) filter (where next is null),
           count(*) filter (where step is distinct from 0),
           coalesce(sum(step - 1) filter (where step between 2 and :seq_step_max), 0)
    from (
        select device_no, hour, seq, seq - lag(seq) over in_order as step, lead(seq) over in_order as next
        from span
        cross join lateral (
            select date_bin('1 hour', ts, 'epoch') as hour, ts, seq from event
            where device_no = span.device_no and ts >= span.start and ts < span.stop and ts >= $4 and ts < $5
              and seq is not null
            offset 0) event
        window in_order as (partition by device_no, hour order by ts, seq)
    ) numbered
    group by device_no, hour
    on conflict (device_no, hour) do update set
        first = excluded.first, last = excluded.last, received = excluded.received, missing = excluded.missing
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
        offset 0) event  -- forces one span at a time: every other plan is slower
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
