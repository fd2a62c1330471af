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
    -- What most questions ask for stands in the index: the hours of a device lie together there, while the
    -- rows lie in the order of the hours (a year of one: 91 pages instead of 8,800).
    primary key (device_no, metric, hour) include (count, sum, squares, min, max)
) with (autovacuum_vacuum_insert_scale_factor = 0.01);

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
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index rollup_mark_hour on rollup_mark (device_no, hour);

-- What SQL users read: one row per value.
create view readings as
select device_id, event_id, ts, metric.key as metric, (metric.value)::double precision as value, event.tags,
       seq, received_at
from event join device using (device_no) cross join lateral jsonb_each(metrics) metric;

-- The functions of answers anew, so that the planner can write them out where they are called, which takes a
-- twentieth of the time: for that a function may be neither strict nor more stable than what it calls.

-- RFC 3339 in UTC, with a fraction only where there is one, as JSON writes it: half the time of to_char.
create or replace function rfc3339(instant timestamptz) returns text
language sql stable parallel safe called on null input
return btrim(to_json(instant at time zone 'UTC')::text, '"') || 'Z';

-- A number as a double; null beyond its range, zero where it is smaller than the smallest.
create or replace function plain(value numeric) returns double precision
language sql immutable parallel safe called on null input
return case when abs(value) > 1.7976931348623157e308 then null
            when abs(value) < 2.4703282292062328e-324 then 0
            else value::double precision end;

-- A number as JSON text: up to 15 digits as they are, which every double holds; more as the shortest that read
-- back as the same double; null beyond its range. Integral values below 2^53 have neither point nor exponent.
create function json_number(value numeric) returns text
language sql immutable parallel safe
return case when value is null then 'null'
            when abs(value) < 1e9 and scale(trim_scale(value)) <= 6 then trim_scale(value)::text
            when abs(value) between 1e15 and 9007199254740992 then trim_scale(plain(value)::text::numeric)::text
            else coalesce(plain(value)::text, 'null') end;
