-- Rollups: exact summaries per device, metric and hour, so that no question about a year reads a year.

-- Kept by the scheduler from the events alone. Sums are numeric, hence exact and the same in every order:
-- no compensation, and nothing that a sum of squares could lose. first and last are ordered by (ts,
-- event_id); the id is kept because only it decides between events of several devices at one instant.
-- A closed hour without a row holds no value of that metric.
create table rollup (
    device_no int not null,
    metric text collate "C" not null,
    hour timestamptz not null,
    count int not null,
    sum numeric not null,
    squares numeric not null,  -- sum of the squared values
    min numeric not null,
    max numeric not null,
    first numeric not null,
    first_ts timestamptz not null,
    first_id text collate "C" not null,
    last numeric not null,
    last_ts timestamptz not null,
    last_id text collate "C" not null,
    primary key (device_no, metric, hour)
);

-- One row. Writers mark the hours before `closing` that they write to; readers trust the rollups of hours
-- before `closed` that carry no mark. closing >= closed, both only grow.
-- Raw events before `floor` are gone or about to go: nothing is written below it any more.
create table rollup_state (
    one bool primary key default true check (one),
    closing timestamptz not null,
    closed timestamptz not null,
    floor timestamptz not null default '1900-01-01Z'
);
-- Everything from the first event on is yet to be rolled up.
insert into rollup_state (closing, closed)
select first, first from (
    select date_trunc('hour', coalesce(min(ts), clock_timestamp()), 'UTC') as first from event) events;

-- Hours of a device that got events after they were closed. Append-only and without a unique key: a mark
-- that another transaction has not committed yet must not swallow ours.
create table rollup_mark (
    device_no int not null,
    hour timestamptz not null
);
create index rollup_mark_hour on rollup_mark (device_no, hour);

-- What SQL users read: one row per value.
create view readings as
select device_id, event_id, ts, metric.key as metric, (metric.value)::double precision as value, event.tags,
       seq, received_at
from event join device using (device_no) cross join lateral jsonb_each(metrics) metric;
