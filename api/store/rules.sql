-- Alert rules, and the end of incidents without an event.

-- Locks are taken in this order: lanes, rule, config; a change with notifications takes the feed's lock last.
-- While a change holds all lanes, no event is being evaluated; later events are evaluated by the changed rules.

-- add_rule --
insert into rule (device_id, tag, metric, op, threshold, name, severity, for_s, clear_threshold,
                  cooldown_s, notify, enabled, condition, max_gap_s, channels)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
returning *

-- replace_rule --
-- $17: the rule does not evaluate events that were received before.
update rule set device_id = $1, tag = $2, metric = $3, op = $4, threshold = $5, name = $6, severity = $7,
    for_s = $8, clear_threshold = $9, cooldown_s = $10, notify = $11, enabled = $12, condition = $13,
    max_gap_s = $14, channels = $15, seeded = seeded and not $17,
    in_force_from = case when $17 then clock_timestamp() else in_force_from end
where rule_id = $16
returning *

-- check_owed --
-- What a former cooldown of `no_data` still holds back is checked now, by the present one.
update alert_state set check_at = statement_timestamp() where rule_id = $1 and incident_id is not null and check_at is not null

-- delete_rule --
delete from rule where rule_id = $1 returning rule_id

-- increment_rules_version --
-- Part of the transaction of a change: from its commit on, every writer uses the new rules.
update config set rules_version = rules_version + 1

-- list_rules --
-- Oldest first, after a key.
select * from rule where (created_at, rule_id) > ($1, $2) order by created_at, rule_id limit $3

-- one_rule --
select * from rule where rule_id = $1

-- lock_rule --
-- A scheduler that prepares the rule ends before, and the next one finds it changed.
select * from rule where rule_id = $1 for update

-- lock_alert_states --
-- Those of the device $1 or the rule $2: a sweep that is opening an incident ends before, and the next one skips them.
select count(*) from (
    select from alert_state
    where ($1::int is null or device_no = $1) and ($2::text is null or rule_id = $2)
    order by device_no, rule_id
    for update) locked

-- end_incidents --
-- Those of the device $1 or the rule $2. No event ended them, so they end now, but not before they began.
-- Returns those that were notified, which the built-in rule `silent`, without a state, always does.
with ended as (
    update incident set resolved_at = greatest(opened_at, statement_timestamp())
    where resolved_at is null and ($1::int is null or device_no = $1) and ($2::text is null or rule_id = $2)
    returning device_no, incident_id, rule_id, severity, resolved_at, metric, op, threshold
), deleted_state as (
    delete from alert_state
    where ($1::int is null or device_no = $1) and ($2::text is null or rule_id = $2)
    returning incident_id, incident_notified, incident_told
)
select device.device_id, incident_id, rule_id, rule.name as rule_name, ended.severity, resolved_at, ended.metric,
       ended.op, ended.threshold, is_silenced(device.device_id, device.tags, rule_id) as muted,
       case when rule_id = 'silent' then told_channels(device.device_id, incident_id)
            when coalesce(incident_told, true) then rule.channels end as channels
from ended join device using (device_no) left join rule using (rule_id)
left join deleted_state using (incident_id)
where coalesce(incident_notified, true)
order by incident_id
