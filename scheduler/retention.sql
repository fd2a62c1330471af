-- Retention: scheduler/retention.py describes the steps.

-- set_lock_timeout --
-- Readers may take 10 s, and while retention waits for them it blocks no one.
set lock_timeout = '15s'

-- lock_retention --
-- Allows one run at a time; held until this session unlocks it or ends.
select pg_try_advisory_lock(:retention_lock)

-- unlock_retention --
select pg_advisory_unlock(:retention_lock)

-- may_drop --
-- Whether this login has the rights of the owner of every partition, and of the table that they are detached from.
select bool_and(pg_has_role(relowner, 'usage')) from pg_class
where oid = 'event'::regclass or oid in (select inhrelid from pg_inherits where inhparent = 'event'::regclass)
   or oid in (select to_regclass(partition) from partition_drop)

-- floor_for --
-- The floor for $1 days of retention: the beginning of a month (UTC), never lower than the current floor. The
-- earlier of two clocks counts, $2 being ours: a clock that is far ahead must not delete any data.
select floor, greatest(floor, date_trunc('month', least(clock_timestamp(), $2) - make_interval(days => $1), 'UTC'))
    as wanted
from rollup_state

-- floor --
select floor from rollup_state

-- move_floor --
-- Runs in its own transaction. Every writer whose transaction begins later rejects older events.
update rollup_state set floor = $1 where floor < $1

-- old_months --
-- The partitions wholly before $1. A half detached one comes first, because PostgreSQL allows only one at a
-- time. A table that someone else detached is not ours to drop.
select relname as partition, at at time zone 'UTC' as first, until at time zone 'UTC' as until, inhrelid is not null as attached,
       coalesce(inhdetachpending, false) as pending, coalesce(blocks, 0) as blocks,
       pg_total_relation_size(c.oid) as size_bytes
from pg_class c
left join pg_inherits on inhrelid = c.oid and inhparent = 'event'::regclass
left join partition_drop on partition = relname
cross join lateral (select to_date(right(relname, 7), 'YYYY_MM')::timestamp as at) beginning
cross join lateral (select at + interval '1 month' as until) ending
where relkind = 'r' and relname ~ '^event_[0-9]{4}_[0-9]{2}$'
  and relnamespace = (select relnamespace from pg_class where oid = 'event'::regclass)
  and (inhrelid is not null or partition is not null)
  and until at time zone 'UTC' <= $1
order by pending desc, relname

-- is_rolled_up --
-- Whether the rollups of all hours before the floor are final.
select closed >= floor and not exists (select from rollup_mark where hour < floor) from rollup_state

-- begin_drop --
-- Marks the partition as ours to drop before it is detached.
insert into partition_drop (partition) values ($1) on conflict do nothing

-- detach --
-- No reader or writer waits for this statement; it waits for those that may be using the partition.
alter table event detach partition {partition} concurrently

-- finish_detaching --
alter table event detach partition {partition} finalize

-- count_blocks --
select pg_relation_size($1::regclass) / current_setting('block_size')::int

-- delete_keys --
-- Deletes the keys of the events in the blocks from $2 up to $3, unless another run has done so meanwhile.
with moved as (
    update partition_drop set blocks = $3 where partition = $1 and blocks = $2 returning partition
)
delete from event_key k using {partition} e
where e.ctid >= format('(%s,0)', $2::bigint)::tid and e.ctid < format('(%s,0)', $3::bigint)::tid
  and k.device_no = e.device_no and k.event_id = e.event_id
  and exists (select from moved)

-- drop_month --
-- One message, hence one transaction.
drop table {partition};
delete from partition_drop where partition = '{partition}'

-- count_events --
select count(*) from {partition}

-- count_keys --
-- Counts the events from block $1 on, whose keys are not yet deleted.
select count(*) from {partition} where ctid >= format('(%s,0)', $1::bigint)::tid

-- count_old_dead_letters --
select count(*) from rejected where received_at < statement_timestamp() - make_interval(days => $1)

-- delete_old_dead_letters --
delete from rejected where rejected_id in (
    select rejected_id from rejected where received_at < statement_timestamp() - make_interval(days => $1)
    limit 10000)
