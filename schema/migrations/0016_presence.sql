-- The learned interval of a device, its history of changes, and whether it is flapping.

-- gaps: the longest silences between signs of life in each of the last seven spans of time, in seconds, the newest
-- span first. A span lasts three learned intervals; docs/decisions/0038-learned-interval.md has the reasons.
-- slept: the last sign of life announced a sleep, so the gap after it teaches nothing.
-- changes: when the last seven changes of state happened, the newest first.
create function learned_interval(gaps real[]) returns double precision
language sql immutable parallel safe
return case when cardinality(gaps) >= 5 then (array_sort(gaps, true))[3] end;

alter table presence
    add column gaps real[],
    add column gaps_since timestamptz,  -- the beginning of the newest span
    add column learned_s double precision generated always as (learned_interval(gaps)) stored,
    add column slept bool not null default false,
    add column changes timestamptz[],
    add column flapping bool not null default false;
create index presence_flapping on presence (device_no) where flapping;

-- The gaps after one more gap; without one they stay as they are.
create function add_gap(gaps real[], gap double precision, in_new_span bool) returns real[]
language sql immutable parallel safe
return case when gap is null then gaps
            when in_new_span then (gap::real || gaps)[1:7]
            else greatest(gap::real, gaps[1]) || gaps[2:7] end;

-- Since when devices are received without a gap; null while they are not. An instance receives while each of its
-- members does: what one of them misses waits in its session. A client that is no member counts as an instance of
-- its own. $1: a canary older than this many seconds is stale.
create function receiving_since(stale_s double precision) returns timestamptz
language sql stable parallel safe
return (
    select max(since) from (
        select max(since) as since
        from canary full join ingest_member using (client_id)
        group by instance, case when instance is null then client_id end
        having bool_and(coalesce(received_at > statement_timestamp() - make_interval(secs => stale_s), false))
    ) instances);

-- The notifications of a device are looked up by device, then numbered by their block.
create index feed_block on feed (block);
