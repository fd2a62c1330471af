-- Devices and profiles as callers register them.

-- Locks are taken in this order: lanes, device, profile, config. Writers hold lanes while they write to
-- presence, so every other transaction that changes presence first takes the lanes of the devices.

-- create_device --
-- Returns no row if the device exists. No other transaction can use the new number before the commit, so it
-- needs no lane.
with added as (
    insert into device (device_id) values ($1) on conflict do nothing returning device_no
), present as (
    insert into presence (device_no) select device_no from added
)
select device_no from added

-- lock_profile --
-- The lock keeps the profile's interval unchanged until the device's expected interval is written.
select from profile where name = $1 for share

-- register_device --
-- $8: replace an existing registration. Returns whether anything changed.
update device set name = $2, profile = $3, tags = $4, attributes = $5, interval_s = $6, tz = $7, registered = true
where device_no = $1 and ($8 or not registered)
returning (old.name, old.profile, old.tags, old.attributes::text, old.interval_s, old.tz, old.registered)
    is distinct from (new.name, new.profile, new.tags, new.attributes::text, new.interval_s, new.tz, new.registered)

-- delete_registration --
update device set name = null, profile = null, tags = '{}', attributes = '{}', interval_s = null, tz = null,
    registered = false, receipts = false
where device_no = $1

-- delete_reused_ids --
delete from reused_id where device_no = $1

-- forget_presence --
-- The sweep does not evaluate the device again before its next sign of life.
update presence set
    state = 'never_seen', reason = 'forgotten', last_seen = null, sleep_s = null, will_at = null,
    gaps = null, span_ends = null, learned_s = null, slept = false, changes = null, flapping = false,
    since = case when reason = 'forgotten' then since else statement_timestamp() end, check_at = 'infinity'
where device_no = $1
returning old.state as was, new.since

-- note_deleted_device --
-- Its events, keys and rollups will be deleted in pieces (schema/deleted_devices.py).
insert into deleted_device (device_no) values ($1)

-- delete_device_without_events --
-- Deletes a device whose events are not kept or will be deleted. Its number is never reused.
with deleted as (
    delete from presence p
    where device_no = $1
      and (exists (select from deleted_device d where d.device_no = p.device_no)
           or (not exists (select from event_key k where k.device_no = p.device_no)
               and not exists (select from rollup r where r.device_no = p.device_no)))
    returning device_no
), deleted_incident as (
    delete from incident using deleted where incident.device_no = deleted.device_no
)
delete from device using deleted where device.device_no = deleted.device_no

-- update_expected_intervals --
-- Sets the intervals of the devices $1, or of those with the profile $2: its own, else its profile's. Where the
-- interval changed and silence is being measured, the next sweep checks the device. $3: DEFAULT_PROFILE.
update presence p set
    interval_s = expected.interval_s,
    check_at = case when p.state in ('online', 'asleep', 'late') then statement_timestamp()
                    else p.check_at end
from (
    select device_no, coalesce(device.interval_s, profile.interval_s) as interval_s
    from device left join profile on profile.name = coalesce(device.profile, $3)
    where ($1::int[] is null or device_no = any($1))
      and ($2::text is null or coalesce(device.profile, $3) = $2)
) expected
where p.device_no = expected.device_no and p.interval_s is distinct from expected.interval_s

-- increment_registry_version --
-- Part of the transaction of a change: from its commit on, every writer uses the new registry.
update config set registry_version = registry_version + 1

-- put_profile --
insert into profile (name, metrics, interval_s, receipts) values ($1, $2, $3, $4)
on conflict (name) do update set
    metrics = excluded.metrics, interval_s = excluded.interval_s, receipts = excluded.receipts
returning old.name is null as created,
    (old.name, old.metrics, old.interval_s, old.receipts)
    is distinct from (new.name, new.metrics, new.interval_s, new.receipts) as changed

-- list_profiles --
-- The profiles after $1, by name; only the profile $2, if it is given.
-- Metrics are written without white space, and their bounds in the form of every number.
select name, (select row_to_json(shown) from (
    select name, written.metrics, interval_s, receipts) shown)::text as body
from profile cross join lateral (
    select format('{%s}', string_agg(to_json(metric) || ':' || (
               select format('{%s}', string_agg(to_json(member) || ':' || case jsonb_typeof(value)
                   when 'number' then json_number(value::numeric) else value::text end, ','))
               from jsonb_each(members) as part (member, value)), ','))::json as metrics
    from jsonb_each(profile.metrics) as listed (metric, members)
) written
where name > $1 and ($2::text is null or name = $2)
order by name
limit $3

-- profile_metrics --
select jsonb_object_keys(metrics) as metric from profile where name = $1 order by 1
