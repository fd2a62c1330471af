-- Alert rules.

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

-- list_rules --
-- Oldest first, after a key.
select * from rule where (created_at, rule_id) > ($1, $2) order by created_at, rule_id limit $3

-- one_rule --
select * from rule where rule_id = $1

-- lock_rule --
-- A scheduler that prepares the rule ends before, and the next one finds it changed.
select * from rule where rule_id = $1 for update
