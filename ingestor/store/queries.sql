-- The writing transaction of ingestor/store/transaction.py, in the order of its steps.

-- begin_in_lanes --
-- Locks the lanes in ascending order, so that in every process the writes to a device happen in the order
-- of their commits. The transaction gets its number before the next statement reads rollup_state: a transaction
-- that gets its number after `closing` or `floor` has moved sees the new value (scheduler/rollups.py,
-- scheduler/retention.py).
begin;
select pg_advisory_xact_lock(:lane_lock, lane) from unnest(array[{lanes}]) lane;
select pg_current_xact_id()

-- insert_keys --
-- The pairs of $1 and $2 are sorted and unique. They are two texts, joined by a character that no event_id
-- contains, because the driver needs a microsecond for each element of an array. The new keys are returned
-- only if not all $3 of them are new.
-- The versions are those at the beginning of the statement, so they include every change that was committed
-- before this batch was received.
-- Presence: $4 joins the devices that sent telemetry only. This query renews last_seen of those that are
-- online, unless it is fresh, and cancels a will. `needs_full_update`: one of them is not online, or the
-- sweep is changing it at this moment, so update_presence must run. The times are in schema/presence.py.
-- $6 has a letter per key, t or f: whether its event has its own time. It is empty if all have.
-- `gap` is the silence that ends, if the device was awake and we received all the time: it teaches the interval.
-- `receipts`: which devices of $4 and $5, the others with a sign of presence, asked for receipts. Another
-- member may have read their birth, so the cache cannot know it.
with new as (
    insert into event_key (device_no, event_id, own_time)
    select * from unnest(string_to_array($1, E'\x1f')::int[], string_to_array($2, E'\x1f'),
                         string_to_array($6, null, 't')::bool[])
    on conflict do nothing
    returning device_no, event_id
), stale as materialized (
    select device_no, gaps, case when span_ends > statement_timestamp() then false else true end as span_ended,
           case when last_seen <= statement_timestamp() - make_interval(secs => :gap_s_min) and not slept
                 and last_seen >= (select receiving_since(:canary_stale_s))
                then date_part('epoch', statement_timestamp() - last_seen)::real end as gap
    from presence
    where device_no = any(string_to_array($4, E'\x1f')::int[])
      and (state <> 'online' or will_at is not null
           or last_seen < statement_timestamp()
                          - make_interval(secs => least(:last_seen_step_s_max, :last_seen_step_intervals * interval_s)))
), gap as materialized (
    select device_no, add_gap(gaps, gap, span_ended) as new_gaps, gap is not null and span_ended as new_span from stale
), taught as materialized (
    select *, learned_interval(new_gaps) as new_learned_s from gap
), refreshed as (
    update presence p set last_seen = statement_timestamp(), sleep_s = null, will_at = null, slept = false,
        gaps = coalesce(new_gaps, gaps),
        learned_s = case when new_gaps is null then learned_s else new_learned_s end,
        span_ends = case when new_span then statement_timestamp() + make_interval(secs => new_learned_s * greatest(
                             :span_intervals, least(:span_gaps * new_gaps[1], :span_gaps_s_max) / new_learned_s))
                         else span_ends end,
        check_at = case when new_span and interval_s is null
                        then least(check_at, statement_timestamp()
                                             + make_interval(secs => :late_intervals * new_learned_s))
                        else check_at end
    from taught where p.device_no = taught.device_no and state = 'online'
    returning 1
)
select count(*) as stored, case when count(*) < $3 then array_agg(device_no) end as device_nos,
       case when count(*) < $3 then array_agg(event_id) end as event_ids,
       (select count(*) from stale) > (select count(*) from refreshed) as needs_full_update,
       (select rules_version from config), (select registry_version from config),
       (select closing from rollup_state), (select floor from rollup_state),
       statement_timestamp() as now,
       (select array_agg(device_no) from device
        where device_no = any(string_to_array(concat_ws(E'\x1f', nullif($4, ''), nullif($5, '')), E'\x1f')::int[])
          and receipts) as receipts
from new

-- record_reused_ids --
-- Which of the duplicates $1 to $3, all of which have their own time, are no resends: returns the places ($4) of those
-- whose id is that of an event with another own time, also of this transaction. They are counted per device. The stored
-- event of a key has the time of the duplicate, or that of $5 (its time without offset, as UTC), or another one, which
-- only the index by time finds. While retention drops a month, keys are left whose events are gone, so then every
-- duplicate counts as a resend.
with reused as materialized (
    select device_no, place from unnest($1::int[], $2::text[], $3::timestamptz[], $4::int[], $5::timestamptz[])
        as duplicate (device_no, event_id, ts, place, utc)
    where (select coalesce(own_time, true) from event_key k
           where k.device_no = duplicate.device_no and k.event_id = duplicate.event_id)
      and (select true from event e
           where e.device_no = duplicate.device_no and e.ts = duplicate.ts and e.event_id = duplicate.event_id
           limit 1) is null
      and (select true from event e
           where e.device_no = duplicate.device_no and e.ts = duplicate.utc and e.event_id = duplicate.event_id
           limit 1) is null
      and not exists (select from partition_drop)
), counted as (
    insert into reused_id (device_no, events, last_at)
    select device_no, count(*), statement_timestamp() from reused group by device_no
    on conflict (device_no) do update
        set events = reused_id.events + excluded.events, last_at = excluded.last_at
)
select place from reused

-- mark_hours --
-- The hours of late events, in seconds since the Unix epoch: their rollups are no longer right.
insert into rollup_mark (device_no, hour)
select device_no, to_timestamp(hour) from unnest($1::int[], $2::bigint[]) as late (device_no, hour)

-- read_alert_states --
select device_no, rule_id, pending_since, incident_id, notified_at, decided_at, incident_notified, incident_told,
       last_at, last_value, received_at
from alert_state where device_no = any($1::int[])

-- newest_evaluated --
-- Per pair: the newest stored event that this rule has evaluated, if it is newer than $6, the oldest candidate event
-- of the batch, so that earlier partitions are not read.
select (
    select e.ts from event e
    where e.device_no = pair.device_no and e.ts > $6 and e.metrics ? pair.metric
      and e.received_at >= pair.in_force_from and (pair.tag is null or e.tags @> array[pair.tag])
    order by e.ts desc limit 1
) as newest
from unnest($1::int[], $2::text[], $3::text[], $4::timestamptz[], $5::int[])
    as pair (device_no, metric, tag, in_force_from, n)
order by pair.n

-- read_device_tags --
select device_no, tags from device where device_no = any($1::int[])

-- update_presence --
-- Decides the next presence state of each device from the merged signals of a batch, one row per device;
-- sweep_presence of the scheduler decides what silence does. The times are in schema/presence.py.
-- A will of a device that was never seen, or was forgotten, changes nothing: it has not spoken yet.
-- $1 joins the devices that sent telemetry only. A sign of life changes nothing while the device is online
-- with a fresh last_seen and no will, except that a birth brings its session. A will counts unless the last
-- birth named another session; within a batch that is decided already (ingestor/decode/presence.py).
-- With several members, telemetry sent before a sleep may arrive after it through another member, so for ten
-- seconds telemetry does not end a sleep. A birth or heartbeat does: these arrive in order.
-- `gap` is the silence that ends, as in insert_keys. A change after as many within the time makes a device flapping;
-- the sweep ends that.
update presence p set
    state = coalesce(s.live_state, p.state),
    since = case when p.state <> s.live_state then statement_timestamp() else p.since end,
    reason = case when p.state <> s.live_state then s.life else p.reason end,
    changes = case when p.state <> s.live_state
                   then (statement_timestamp() || p.changes)[1:(:flapping_changes + 1)] else p.changes end,
    flapping = p.flapping or coalesce(p.state <> s.live_state and p.changes[:flapping_changes]
                                      > statement_timestamp() - make_interval(secs => :flapping_s), false),
    last_seen = case when s.life is null then p.last_seen else statement_timestamp() end,
    sleep_s = case when s.life is null then p.sleep_s else s.sleep_s end,
    slept = case when s.life is null then p.slept else s.asleep end,
    gaps = coalesce(s.new_gaps, p.gaps),
    learned_s = s.learned_s,
    span_ends = case when s.new_span then statement_timestamp() + make_interval(secs => s.learned_s * greatest(
                         :span_intervals, least(:span_gaps * s.new_gaps[1], :span_gaps_s_max) / s.learned_s))
                     else p.span_ends end,
    will_at = case
        when s.will and (s.life is not null or p.state not in ('asleep', 'never_seen')) then statement_timestamp()
        when s.life is not null then null
        else p.will_at end,
    check_at = case
        when s.will and (s.life is not null or p.state not in ('asleep', 'never_seen'))
            then least(p.check_at, statement_timestamp() + make_interval(secs => :will_grace_s))
        when s.asleep or p.state <> 'online' and s.life is not null
            then statement_timestamp() + make_interval(secs => coalesce(
                     :late_intervals * coalesce(s.sleep_s, p.interval_s, s.learned_s), $7))
        when s.new_span and p.interval_s is null
            then least(p.check_at, statement_timestamp() + make_interval(secs => :late_intervals * s.learned_s))
        else p.check_at end,
    session = case when s.birth then s.session else p.session end
from (
    select device_no, life, asleep, signal.sleep_s, birth, signal.session, new_span, new_gaps,
           case when new_gaps is null then learned_s else learned_interval(new_gaps) end as learned_s,
           will and (birth or coalesce(will_session = known.session, true)) as will,
           case when asleep then 'asleep' when life is not null then 'online' end as live_state
    from (
        select alive, 'telemetry', false, null::float8, false, false, null::text, null::text
        from unnest(string_to_array($1, E'\x1f')::int[]) as alive
        union all
        select * from unnest($2::int[], $3::text[], $4::bool[], $5::float8[], $6::bool[], $8::bool[], $9::text[],
                             $10::text[])
    ) as signal (device_no, life, asleep, sleep_s, will, birth, session, will_session)
    join presence known using (device_no)
    cross join lateral (
        select case when life is not null and not slept
                     and last_seen <= statement_timestamp() - make_interval(secs => :gap_s_min)
                     and last_seen >= (select receiving_since(:canary_stale_s))
                    then date_part('epoch', statement_timestamp() - last_seen)::real end as gap) ended
    cross join lateral (
        select gap is not null and coalesce(span_ends <= statement_timestamp(), true) as new_span) span
    cross join lateral (select add_gap(gaps, gap, new_span) as new_gaps) added
) as s
where p.device_no = s.device_no
  and (p.state <> 'online' or s.asleep or s.will or p.will_at is not null
       or (s.birth and p.session is distinct from s.session)
       or p.last_seen < statement_timestamp()
                        - make_interval(secs => least(:last_seen_step_s_max, :last_seen_step_intervals * p.interval_s)))
  and not (p.state = 'asleep' and s.life = 'telemetry' and not s.will and not s.birth
           and p.last_seen > statement_timestamp() - make_interval(secs => :sleep_grace_s)
           and exists (select from ingest_member where number > 1))
returning p.device_no, old.state as was, new.state, new.since, new.reason, new.last_seen, new.flapping

-- set_receipts --
-- What births asked for.
update device set receipts = wanted.receipts
from unnest($1::int[], $2::bool[]) as wanted (device_no, receipts)
where device.device_no = wanted.device_no and device.receipts <> wanted.receipts

-- forget_owed_silence --
-- Runs before resolve_silence: a scheduler that is notifying channels of such an incident ends before, so that they get
-- its end, and the next one finds nothing.
delete from alert_state where device_no = any($1::int[]) and rule_id = 'silent'

-- resolve_silence --
-- Resolve the open incidents of the built-in rule `silent` for devices that came back.
with resolved as (
    update incident set resolved_at = statement_timestamp()
    where device_no = any($1::int[]) and rule_id = 'silent' and resolved_at is null
    returning device_no, incident_id, resolved_at
)
select resolved.*, is_silenced(device_id, tags, 'silent') as muted, told_channels(device_id, incident_id) as channels
from resolved join device using (device_no)

-- next_incident_numbers --
select nextval('incident_no') from generate_series(1, $1)

-- resolve_incidents --
-- Runs before open_incidents: within a batch an incident may resolve and the next one of its rule open.
update incident i set resolved_at = r.at, resolved_by = r.event_id
from unnest($1::int[], $2::bigint[], $3::timestamptz[], $4::text[]) as r (device_no, incident_id, at, event_id)
where i.device_no = r.device_no and i.incident_id = r.incident_id

-- open_incidents --
-- An incident that resolves within the same batch is inserted as resolved.
insert into incident (incident_id, device_no, rule_id, severity, opened_at, opened_by, opened_value,
                      resolved_at, resolved_by, metric, op, threshold)
select * from unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::timestamptz[], $6::text[],
                     $7::float8[], $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::float8[])

-- save_alert_states --
insert into alert_state (device_no, rule_id, pending_since, incident_id, notified_at, decided_at,
                         incident_notified, incident_told, last_at, last_value)
select * from unnest($1::int[], $2::text[], $3::timestamptz[], $4::bigint[], $5::timestamptz[],
                     $6::timestamptz[], $7::bool[], $8::bool[], $9::timestamptz[], $10::float8[])
on conflict (device_no, rule_id) do update set
    pending_since = excluded.pending_since, incident_id = excluded.incident_id,
    notified_at = excluded.notified_at, decided_at = excluded.decided_at,
    incident_notified = excluded.incident_notified, incident_told = excluded.incident_told,
    last_at = excluded.last_at, last_value = excluded.last_value

-- save_last --
-- Only the newest evaluated event, in columns of joined text: of rules of `rate` every event is saved, and the driver
-- needs a microsecond for each element of an array. $3: microseconds since the Unix epoch.
insert into alert_state (device_no, rule_id, last_at, last_value)
select device_no, rule_id, timestamptz 'epoch' + us * interval '1 us', last_value
from unnest(string_to_array($1, E'\x1f')::int[], string_to_array($2, E'\x1f'), string_to_array($3, E'\x1f')::bigint[],
            string_to_array($4, E'\x1f')::float8[]) as evaluated (device_no, rule_id, us, last_value)
on conflict (device_no, rule_id) do update set last_at = excluded.last_at, last_value = excluded.last_value

-- save_receipts --
-- `no_data`: the metric of these pairs arrived; $3 is for_s of their rules. The sweep may open an incident at the
-- same moment, so only the row says whether one is open. A check that is due sooner stays.
insert into alert_state (device_no, rule_id, received_at, check_at)
select device_no, rule_id, statement_timestamp(), statement_timestamp() + make_interval(secs => for_s)
from unnest($1::int[], $2::text[], $3::float8[]) as arrived (device_no, rule_id, for_s)
on conflict (device_no, rule_id) do update set
    received_at = excluded.received_at, incident_id = null, incident_notified = false, incident_told = false,
    check_at = case when alert_state.incident_id is null
                    then least(alert_state.check_at, excluded.check_at) else excluded.check_at end
returning device_no, rule_id, old.incident_id, old.incident_notified, old.incident_told, new.received_at

-- muted_now --
-- Whether silences concern these alerts, in their order; $3 are the tags of their events, as JSON.
select is_silenced(device_id, device.tags || array(select jsonb_array_elements_text(arrived.tags::jsonb)), rule_id) as muted
from unnest($1::int[], $2::text[], $3::text[]) with ordinality as arrived (device_no, rule_id, tags, n)
join device using (device_no)
order by n

-- are_stored --
-- Whether a commit whose answer was lost took place: its rows are all there or none. $3 to $5 are a dead
-- letter of the batch, null if it has none. (The number of the transaction is no proof: after a crash that
-- lost it with its unwritten log, pg_xact_status reports on another transaction.)
-- Devices are found by id, because after a failover their numbers may belong to other devices.
select (select count(*) from unnest($1::text[], $2::text[]) as wanted (device_id, event_id)
            join device using (device_id)
            join event_key using (device_no, event_id)) = cardinality($1::text[])
   and ($3::timestamptz is null or exists (
        select from rejected where received_at = $3 and reason = $4 and payload = $5))

-- read_device_ids --
select device_no, device_id from device where device_no = any($1::int[])
