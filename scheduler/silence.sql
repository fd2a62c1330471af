-- Presence over time: scheduler/silence.py describes the rules.

-- sweep_presence --
-- Evaluates the due devices, each of them once, whatever the number of schedulers. $1: after how many seconds
-- of silence a device without an expected interval is offline.
with receiving as (
    -- Since when devices are received without a gap, and up to when: null while they are not.
    select receiving_since(:canary_stale_s) as since, receiving_until(:canary_stale_s) as until
), due as materialized (
    -- The devices to evaluate; those that another scheduler has locked are its own. The present is never before
    -- `until`: it is there for the planner, which can estimate with it.
    select p.device_no from presence p, receiving
    where receiving.since is not null and p.check_at <= statement_timestamp()
      and p.check_at <= (select until from receiving)
    order by p.check_at limit 5000
    for update of p skip locked
), deadlines as (
    -- When each device becomes offline by its will, late or offline by silence; null means never.
    select p.device_no, p.state,
        case when p.will_at is not null and p.state <> 'asleep'
             then greatest(p.will_at, receiving.since) + make_interval(secs => :will_grace_s) end as will_due,
        silence.start + make_interval(secs => :late_intervals * expected.s) as late_at,
        silence.start + make_interval(secs => case when expected.s is null then $1
                                                   else greatest(:offline_intervals * expected.s, :offline_s_min) end)
            as offline_at
    from due
    join presence p using (device_no)
    cross join receiving
    cross join lateral (select coalesce(p.sleep_s, p.interval_s, p.learned_s) as s) expected
    -- update_presence skips small steps of last_seen; silence begins later by the largest step it skips.
    cross join lateral (
        select case when p.state <> 'never_seen' then greatest(p.last_seen, receiving.since)
            + make_interval(secs => least(:last_seen_step_s_max, :last_seen_step_intervals * p.interval_s)) end
        as start) silence
), evaluated as (
    -- The state that the passed deadlines lead to, as far as we know.
    select device_no, will_due, late_at, offline_at,
        case when will_due <= until then 'will' else 'silent' end as reason,
        case when least(will_due, offline_at) <= until then 'offline'
             when late_at <= until then 'late'
             else state end as new_state,
        case when will_due <= until then will_due
             when offline_at <= until then offline_at
             else late_at end as since
    from deadlines cross join receiving
)
update presence p set
    state = e.new_state,
    since = case when e.new_state = p.state then p.since else e.since end,
    reason = case when e.new_state = p.state then p.reason else e.reason end,
    changes = case when e.new_state = p.state then p.changes
                   else (e.since || p.changes)[1:(:flapping_changes + 1)] end,
    flapping = p.flapping or coalesce(e.new_state <> p.state and p.changes[:flapping_changes]
                                      > e.since - make_interval(secs => :flapping_s), false),
    will_at = case when e.new_state = 'offline' then null else p.will_at end,
    check_at = case e.new_state
                   when 'offline' then 'infinity'
                   when 'late' then least(e.will_due, e.offline_at, 'infinity')
                   else least(e.will_due, e.late_at, e.offline_at, 'infinity') end
from evaluated e join device using (device_no)
where p.device_no = e.device_no
returning p.device_no, device_id, old.state as old_state, new.state, new.since, new.reason, new.last_seen

-- open_silence_incidents --
-- $1 and $2: devices, and when each became offline. An incident that is open already stays as it is.
-- What a silence keeps from channels is remembered, because they get it when that ends (scheduler/no_data.py).
with opened as (
    insert into incident (device_no, rule_id, severity, opened_at)
    select device_no, 'silent', 'warning', at from unnest($1::int[], $2::timestamptz[]) as offline (device_no, at)
    on conflict do nothing
    returning device_no, incident_id, opened_at
), wanted as (
    select array_agg(name) as channels from channel where silent
), shown as (
    select opened.*, is_silenced(device_id, tags, 'silent') as muted from opened join device using (device_no)
), owed as (
    insert into alert_state (device_no, rule_id, incident_id, incident_notified, check_at)
    select device_no, 'silent', incident_id, true, statement_timestamp() from shown, wanted
    where muted and channels is not null
    on conflict (device_no, rule_id) do update set
        incident_id = excluded.incident_id, incident_told = false, check_at = excluded.check_at
)
select shown.*, case when not muted then channels end as channels from shown, wanted

-- forget_owed_of_calm --
-- Runs before end_flapping and locks the same devices: another scheduler that is notifying channels of such an incident
-- ends before, so that they get its end.
with receiving as (
    select receiving_since(:canary_stale_s) as since
), calm as materialized (
    select device_no from presence, receiving
    where flapping and greatest(changes[1], receiving.since) <= statement_timestamp() - make_interval(secs => :flapping_s)
      and receiving.since is not null and state <> 'offline'
    limit 5000
    for update of presence skip locked
)
delete from alert_state using calm where alert_state.device_no = calm.device_no and rule_id = 'silent'

-- end_flapping --
-- Devices whose last change is an hour ago, time in which we did not receive aside, are not flapping any more. Returns
-- the incidents of silence that this resolves: those of devices that are not offline.
with receiving as (
    select receiving_since(:canary_stale_s) as since
), calm as materialized (
    select device_no from presence, receiving
    where flapping and greatest(changes[1], receiving.since) <= statement_timestamp() - make_interval(secs => :flapping_s)
      and receiving.since is not null
    limit 5000
    for update of presence skip locked
), ended as (
    update presence p set flapping = false from calm where p.device_no = calm.device_no
    returning p.device_no, p.state
), resolved as (
    update incident set resolved_at = statement_timestamp() from ended
    where incident.device_no = ended.device_no and rule_id = 'silent' and resolved_at is null and state <> 'offline'
    returning incident.device_no, incident_id, resolved_at
)
select device_id, incident_id, resolved_at, is_silenced(device_id, tags, 'silent') as muted,
       told_channels(device_id, incident_id) as channels
from resolved join device using (device_no)
