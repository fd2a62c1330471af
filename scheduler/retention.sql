-- Retention: scheduler/retention.py tells the steps.

-- be_patient --
-- Nobody waits for what we wait for, and readers may take 10 s.
set lock_timeout = '15s'

-- lock_retention --
-- One at a time; until this session unlocks or ends.
select pg_try_advisory_lock(:retention_lock)

-- unlock_retention --
select pg_advisory_unlock(:retention_lock)

-- floor_for --
-- The floor that $1 days of retention want: a month's beginning (UTC), never lower than it is. The earlier
-- of two clocks counts, $2 being ours: one that is far ahead must not cost any data.
select floor, greatest(floor, date_trunc('month', least(clock_timestamp(), $2) - make_interval(days => $1), 'UTC'))
    as wanted
from rollup_state

-- floor --
select floor from rollup_state

-- move_floor --
-- Commits alone. Every writer whose transaction begins later refuses what is older.
update rollup_state set floor = $1 where floor < $1

-- old_months --
-- The partitions wholly before $1, one that is half detached first: PostgreSQL has but one at a time. A
-- table that somebody else has detached is theirs.
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
-- Whether the rollups of all hours before the floor are as they will stay.
select closed >= floor and not exists (select from rollup_mark where hour < floor) from rollup_state

-- begin_leaving --
insert into partition_drop (partition) values ($1) on conflict do nothing

-- detach --
-- No reader or writer waits for this one; it waits for those that may be using the partition.
alter table event detach partition {partition} concurrently

-- finish_detaching --
alter table event detach partition {partition} finalize

-- count_blocks --
select pg_relation_size($1::regclass) / current_setting('block_size')::int

-- forget_keys --
-- Those of the events in the blocks from $2 up to $3, if nobody else did that meanwhile.
with moved as (
    update partition_drop set blocks = $3 where partition = $1 and blocks = $2 returning partition
)
delete from event_key k using {partition} e
where e.ctid >= format('(%s,0)', $2::bigint)::tid and e.ctid < format('(%s,0)', $3::bigint)::tid
  and k.device_no = e.device_no and k.event_id = e.event_id
  and exists (select from moved)

-- drop_month --
-- Sent as one message, so it is one transaction.
drop table {partition};
delete from partition_drop where partition = '{partition}'

-- count_events --
select count(*) from {partition}

-- count_keys --
-- Of the events from block $1 on.
select count(*) from {partition} where ctid >= format('(%s,0)', $1::bigint)::tid

-- count_rejected --
select count(*) from rejected where received_at < statement_timestamp() - make_interval(days => $1)

-- drop_rejected --
delete from rejected where rejected_id in (
    select rejected_id from rejected where received_at < statement_timestamp() - make_interval(days => $1)
    limit 10000)
