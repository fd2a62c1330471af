-- Conditions of rules, what an incident was about, acknowledgements, and silences.

-- A rule of `no_data` compares nothing. `seeded`: every device that sent the metric before the rule was made has
-- its row in alert_state, from which its silence is measured.
alter table rule
    alter column op drop not null,
    alter column threshold drop not null,
    add column condition text not null default 'threshold' check (condition in ('threshold', 'no_data', 'rate')),
    add column max_gap_s double precision check (max_gap_s > 0),
    add column channels text[] not null default '{}',
    add column seeded bool not null default false,
    add constraint rule_compares check ((condition = 'no_data') = (op is null)
                                        and (condition = 'no_data') = (threshold is null));

-- What the rule said when the incident opened: it may be changed or deleted since. Null for rule 'silent'.
-- recorded_at is the time at which we opened it; opened_at of a buffered event may lie long before.
alter table incident
    add column metric text,
    add column op text,
    add column threshold double precision,
    add column recorded_at timestamptz not null default clock_timestamp(),
    add column acknowledged_by text,
    add column acknowledged_note text;
update incident set metric = rule.metric, op = rule.op, threshold = rule.threshold, recorded_at = opened_at
from rule where rule.rule_id = incident.rule_id;
-- Lists show the newest incidents first.
create index incident_of_rule on incident (rule_id, incident_id);
create index incident_opened_at on incident (opened_at);
create index incident_unresolved on incident (incident_id) where resolved_at is null;

-- incident_told: a channel may have got the incident; a silence keeps it from channels, not from subscribers.
-- last_at and last_value: the newest evaluated event, kept for `rate`, and for `for_s` while a gap may break its run.
-- received_at: the last receipt of the metric, kept for `no_data`; not renewed while it is fresh.
-- check_at: a lower bound for the next check of a pair of `no_data`, or of an incident that is owed to channels.
alter table alert_state
    add column incident_told bool not null default false,
    add column last_at timestamptz,
    add column last_value double precision,
    add column received_at timestamptz,
    add column check_at timestamptz;
update alert_state set incident_told = incident_notified;
create index alert_state_check_at on alert_state (check_at) where check_at is not null;

-- Who must not be called, by time of receipt. A silence concerns alerts that meet all of its conditions.
create table silence (
    silence_id bigint generated always as identity primary key,
    device_id text collate "C",
    tag text,
    rule_id text collate "C",
    starts_at timestamptz not null,
    ends_at timestamptz not null check (ends_at > starts_at),
    reason text,
    created_at timestamptz not null default clock_timestamp(),
    check (num_nonnulls(device_id, tag, rule_id) > 0)
);
create index silence_ends_at on silence (ends_at);

-- Whether channels must not get an alert now: of this device, with one of these tags, of this rule.
create function is_silenced(device_id text, tags text[], rule_id text) returns bool
language sql stable
return exists (
    select from silence
    where statement_timestamp() >= silence.starts_at and statement_timestamp() < silence.ends_at
      and (silence.device_id is null or silence.device_id = is_silenced.device_id)
      and (silence.rule_id is null or silence.rule_id = is_silenced.rule_id)
      and (silence.tag is null or silence.tag = any(tags)));

-- Since when devices are received without a gap; null while they are not. An instance receives while each of its
-- members does: what one of them misses waits in its session. A client that is no member counts as an instance of
-- its own. A client without a canary for stale_s does not receive.
create function receiving_since(stale_s double precision) returns timestamptz
language sql stable parallel safe
return (
    select max(since) from (
        select max(since) as since
        from canary full join ingest_member using (client_id)
        group by instance, case when instance is null then client_id end
        having bool_and(coalesce(received_at > statement_timestamp() - make_interval(secs => stale_s), false))
    ) instances);
