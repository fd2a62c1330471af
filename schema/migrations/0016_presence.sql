-- The learned interval of a device, whether it is flapping, and how complete its events are.

-- gaps: the longest silences between signs of life in each of the last seven spans of time, in seconds, the newest
-- span first. A span lasts three learned intervals; docs/decisions/0038-learned-interval.md has the reasons.
-- slept: the last sign of life announced a sleep, so the gap after it teaches nothing.
-- changes: when the last seven changes of state happened, the newest first.
alter table presence
    add column gaps real[],
    add column span_ends timestamptz,  -- a gap that ends later is the first of a new span; null: every gap is
    add column learned_s double precision,
    add column slept bool not null default false,
    add column changes timestamptz[],
    add column flapping bool not null default false;
create index presence_flapping on presence (device_no) where flapping;

-- The gaps after one more gap; null if they stay as they are, which is also so if there is no gap.
create function add_gap(gaps real[], gap real, new_span bool) returns real[]
language sql immutable parallel safe
return case when gap is null then null
            when new_span then (gap || gaps)[1:7]
            when gap > gaps[1] then gap || gaps[2:7] end;

create function learned_interval(gaps real[]) returns double precision
language sql immutable parallel safe
return case when cardinality(gaps) >= 5 then (array_sort(gaps, true))[3] end;

-- Up to when devices are received, which is when the last canary of each member was: while messages wait, so does
-- the canary. Null as for receiving_since.
create function receiving_until(stale_s double precision) returns timestamptz
language sql stable parallel safe
return (
    select least(max(until), statement_timestamp()) from (
        select min(received_at) as until
        from canary full join ingest_member using (client_id)
        group by instance, case when instance is null then client_id end
        having bool_and(coalesce(received_at > statement_timestamp() - make_interval(secs => stale_s), false))
    ) instances);

-- The notifications of a device are looked up by device, then numbered by their block.
create index feed_block on feed (block);

-- Beside the rollups of metrics and by the same protocol: the events with seq of a device in an hour, in the order
-- (ts, seq). received: events whose seq differs from the one before them in the hour; missing: numbers that are left
-- out in it. A closed hour without a row holds no event with seq.
create table seq_rollup (
    device_no int not null,
    hour timestamptz not null,
    first bigint not null,
    last bigint not null,
    received bigint not null,
    missing bigint not null,
    primary key (device_no, hour) include (first, last, received, missing)
) with (autovacuum_vacuum_insert_scale_factor = 0.01);

-- The hours that were closed before get their rows from the roller; until then their events are read.
insert into rollup_mark (device_no, hour)
select distinct device_no, date_bin('1 hour', ts, 'epoch') from event
where seq is not null and ts < (select closing from rollup_state);
