-- What the scheduler asks and changes.

-- sweep_presence --
-- The due devices, each judged once, whatever the number of schedulers. $1: the limit of silence in
-- seconds while the interval is unknown. Silence counts from the last sign of life, but not from before
-- we began to hear without a gap; while we do not hear, nobody is judged. An instance hears while each of
-- its members does: what the others missed waits in the session of the one that is deaf (a listener that
-- is no member stands for itself). The last sign of life is written down to two seconds (update_presence),
-- which the limits grant on top.
with ear as (
    select max(since) as since from (
        select max(since) as since
        from canary full join ingest_member using (client_id)
        group by instance, case when instance is null then client_id end
        having bool_and(coalesce(received_at > statement_timestamp() - make_interval(secs => :canary_stale_s), false))
    ) instances
), due as materialized (
    select p.device_no from presence p, ear
    where ear.since is not null and p.check_at <= statement_timestamp()
    order by p.check_at limit 5000
    for update of p skip locked
), limits as (
    select p.device_no, p.state, p.will_at,
        case when p.state <> 'asleep' then greatest(p.will_at, ear.since) + make_interval(secs => :will_grace_s) end as will_due,
        case when p.state <> 'never_seen' then silence.start + make_interval(secs => :late_intervals * span.s) end as late_at,
        case when p.state <> 'never_seen' then silence.start
            + make_interval(secs => case when span.s is null then $1 else greatest(:offline_intervals * span.s, :offline_s_min) end)
            end as offline_at
    from due
    join presence p using (device_no)
    cross join ear
    cross join lateral (select coalesce(p.sleep_s, p.interval_s) as s) span
    cross join lateral (
        select greatest(p.last_seen, ear.since)
             + make_interval(secs => least(:last_seen_step_s_max, :last_seen_step_intervals * p.interval_s)) as start) silence
), judged as (
    select device_no, will_due, late_at, offline_at,
        case when will_at is not null and will_due <= statement_timestamp() then 'will' else 'silent' end as reason,
        case when will_at is not null and will_due <= statement_timestamp() then 'offline'
             when offline_at <= statement_timestamp() then 'offline'
             when late_at <= statement_timestamp() then 'late'
             else state end as verdict,
        case when will_at is not null then will_due end as will_check
    from limits
)
update presence p set
    state = j.verdict,
    since = case when j.verdict = p.state then p.since
                 when j.verdict = 'late' then j.late_at
                 when j.reason = 'will' then j.will_due
                 else j.offline_at end,
    reason = case when j.verdict = p.state then p.reason else j.reason end,
    will_at = case when j.verdict = 'offline' then null else p.will_at end,
    check_at = case when j.verdict = 'offline' then 'infinity'
                    else coalesce(least(j.will_check, case when j.verdict = 'late' then j.offline_at
                                                     else coalesce(j.late_at, j.offline_at) end), 'infinity') end
from judged j join device using (device_no)
where p.device_no = j.device_no
returning p.device_no, device_id, old.state as was, new.state, new.since, new.reason, new.last_seen

-- open_silence --
insert into incident (device_no, rule_id, severity, opened_at)
select device_no, 'silent', 'warning', at from unnest($1::int[], $2::timestamptz[]) as s (device_no, at)
on conflict do nothing
returning device_no, incident_id, opened_at

-- feed_position --
select last_id from feed_position where reader = $1

-- save_feed_position --
insert into feed_position (reader, last_id) values ($1, $2)
on conflict (reader) do update set last_id = excluded.last_id

-- firing_alerts --
-- What each open incident told last, as retained messages show it.
select feed.first_id + told.n as id, told.*
from incident
join device using (device_no)
cross join lateral (
    select o.block, o.n, o.kind, o.device_id, o.rule_id, o.state, o.late, o.body from outbox o
    where o.kind = 'alert' and o.device_id = device.device_id and o.rule_id = incident.rule_id
      and not o.late and o.state <> 'resolved'
      and (o.body ->> 'incident_id')::bigint = incident.incident_id
    order by o.block desc, o.n desc limit 1
) told
join feed using (block)
where incident.resolved_at is null

-- latest_presence --
-- What each device's presence told last, by pages of device ids.
select feed.first_id + told.n as id, told.*
from (select device_id from device where device_id > $1 order by device_id limit $2) page
cross join lateral (
    select o.block, o.n, o.kind, o.device_id, o.rule_id, o.state, o.late, o.body from outbox o
    where o.kind = 'presence' and o.device_id = page.device_id
    order by o.block desc, o.n desc limit 1
) told
join feed using (block)
order by told.device_id

-- last_device_of_page --
select max(device_id) from (select device_id from device where device_id > $1 order by device_id limit $2) page

-- prune_outbox --
-- Notification things older than 30 days, but for the last word on each device and each open incident.
delete from outbox o using feed f
where f.block = o.block and f.committed_at < statement_timestamp() - interval '30 days'
  and exists (select from outbox newer
              where newer.device_id = o.device_id and newer.kind = o.kind
                and newer.rule_id is not distinct from o.rule_id
                and (newer.block, newer.n) > (o.block, o.n))

-- prune_feed --
delete from feed f
where f.committed_at < statement_timestamp() - interval '30 days'
  and not exists (select from outbox o where o.block = f.block)
