-- Many registrations in one transaction; api/store/registry.sql has those of one device, and the order of locks.

-- known_profiles --
select name from profile where name = any($1::text[])

-- lock_profiles --
-- The lock keeps their intervals unchanged until the expected intervals of the devices are written.
select from profile where name = any($1::text[]) order by name for share

-- create_devices --
-- Returns the numbers of those that are new. In the order in which writers register unknown devices, so that neither
-- waits for the other in a circle; nobody else can use the new numbers before the commit, so they need no lane.
with added as (
    insert into device (device_id) select unnest($1::text[]) order by 1 on conflict do nothing returning device_no
), present as (
    insert into presence (device_no) select device_no from added
)
select device_no from added

-- device_numbers --
select device_no from device where device_id = any($1::text[])

-- register_devices --
-- $1: registrations as JSON. Returns how many devices there are, and the numbers of those that changed.
with registered as (
    update device set name = row.name, profile = row.profile, tags = row.tags, attributes = row.attributes,
        interval_s = row.interval_s, tz = row.tz, registered = true
    from json_to_recordset($1::json) as row (
        device_id text collate "C", name text, profile text, tags text[], attributes json, interval_s float8, tz text)
    where device.device_id = row.device_id
    returning device.device_no,
        (old.name, old.profile, old.tags, old.attributes::text, old.interval_s, old.tz, old.registered) is distinct from
        (new.name, new.profile, new.tags, new.attributes::text, new.interval_s, new.tz, new.registered) as changed
)
select count(*) as devices, coalesce(array_agg(device_no) filter (where changed), '{}') as changed from registered
