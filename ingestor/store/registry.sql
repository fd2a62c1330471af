-- The registry as writers cache it (ingestor/store/registry.py): devices, profiles, rules, silences.

-- find_devices --
select device_id, device_no, profile, receipts, interval_s, tz from device where device_id = any($1::text[])

-- add_devices --
-- A device exists from its first event, heartbeat or status, with its presence row from the start.
-- `for share` keeps the interval of the profile from changing meanwhile (api/store/registry.sql).
with added as (
    insert into device (device_id)
    select unnest($1::text[]) order by 1
    on conflict do nothing
    returning device_no
)
insert into presence (device_no, reason, interval_s)
select device_no, 'first message', (select interval_s from profile where name = $2 for share)
from added

-- read_registry_version --
select registry_version from config

-- read_profiles --
select name, metrics, receipts, interval_s from profile

-- read_rules --
select rule_id, device_id, tag, metric, op, threshold, severity, for_s, clear_threshold, cooldown_s,
       notify, in_force_from, condition, max_gap_s, name, channels
from rule where enabled

-- read_silences --
-- The silences that are or will be in force. A change of a silence increments rules_version, too.
select device_id, tag, rule_id, starts_at, ends_at from silence where ends_at > statement_timestamp()
