-- The leases, members and canaries of the MQTT door.

-- whoami --
select pid, backend_start from pg_stat_activity where pid = pg_backend_pid()

-- end_previous_lease --
-- End the holder of the lease if it is our own previous connection ($3, $4). Returns whether it was.
select bool_or(pg_terminate_backend(pid)) from pg_locks join pg_stat_activity using (pid)
where locktype = 'advisory' and granted and objsubid = 2 and pid = $3 and backend_start = $4
  and database = (select oid from pg_database where datname = current_database())
  and classid = $1::int::oid and objid = (hashtext($2)::bigint & 4294967295)::oid

-- record_canary --
-- After a gap of more than 10 s `since` starts again: silence before it is not held against any device.
-- (`sweep_presence` of the scheduler reads it; schema/presence.py has the time.)
insert into canary (client_id, since, received_at)
values ($1, statement_timestamp(), statement_timestamp())
on conflict (client_id) do update set
    since = case when canary.received_at < statement_timestamp() - make_interval(secs => :canary_stale_s)
                 then statement_timestamp() else canary.since end,
    received_at = statement_timestamp()

-- register_member --
-- Runs before the member subscribes. Filters are only added: its session may have kept earlier ones.
insert into ingest_member (client_id, instance, number, filters) values ($1, $2, $3, $4)
on conflict (client_id) do update set
    filters = array(select distinct unnest(ingest_member.filters || excluded.filters) order by 1)
returning filters

-- departed_members --
-- The members beyond the present total.
select number, filters from ingest_member where instance = $1 and number > $2 order by number

-- remove_member --
with removed as (delete from ingest_member where client_id = $1)
delete from canary where client_id = $1
