-- What several kinds of changes have in common (api/store/change.py).

-- increment_rules_version --
-- Part of the transaction that changes rules or silences: from its commit on, every writer uses the new ones.
update config set rules_version = rules_version + 1

-- lock_alert_states --
-- The states of the device $1 or the rule $2. A sweep that is opening an incident ends before, and the next one skips
-- them.
select count(*) from (
    select from alert_state
    where ($1::int is null or device_no = $1) and ($2::text is null or rule_id = $2)
    order by device_no, rule_id
    for update) locked

-- end_incidents --
-- The incidents of the device $1 or the rule $2. No event ended them, so they end now, but not before they began.
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
