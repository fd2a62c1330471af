-- Rules of `no_data` (scheduler/no_data.py): the devices they begin with, and the pairs of rule and device that are due.

-- unseeded_rules --
select rule_id from rule where condition = 'no_data' and enabled and not seeded order by rule_id

-- lock_unseeded_rule --
-- A change of the rule ends before, and the next one waits.
select rule_id from rule where rule_id = $1 and enabled and not seeded for update

-- seed_rule --
-- A row for each device that sent the metric before, of which only its rollups may be kept. Rollups have no tags: with
-- a tag, the events of the last day before the rule count. A forgotten device begins with its next event.
insert into alert_state (device_no, rule_id, received_at, check_at)
select device_no, rule_id, in_force_from, in_force_from + make_interval(secs => for_s)
from rule cross join device join presence using (device_no)
where rule_id = $1 and (rule.device_id is null or rule.device_id = device.device_id) and presence.state <> 'never_seen'
  and case when rule.tag is null then
      exists (select from rollup r where r.device_no = device.device_no and r.metric = rule.metric)
      or exists (select from event e where e.device_no = device.device_no and e.metrics ? rule.metric
                 and e.ts >= (select closed from rollup_state))
      or exists (select from rollup_mark m join event e using (device_no)
                 where m.device_no = device.device_no and e.metrics ? rule.metric
                   and e.ts >= m.hour and e.ts < m.hour + interval '1 hour')
  else
      exists (select from event e where e.device_no = device.device_no and e.metrics ? rule.metric
              and e.ts >= rule.in_force_from - interval '1 day' and e.tags @> array[rule.tag])
  end
on conflict do nothing

-- mark_seeded --
update rule set seeded = true where rule_id = $1

-- receiving_since --
select receiving_since(:canary_stale_s)

-- due_pairs --
-- The pairs to check; those that another scheduler has locked are its own. $1: since when devices are received without
-- a gap. Silence counts from the last receipt, from the rule or from $1, whichever is latest; announced sleep, which
-- the changes of presence show, is left out. A rule that is gone has no metric.
-- An incident of the built-in rule `silent` is due while a silence keeps it from channels.
with due as materialized (
    select device_no, rule_id, received_at, incident_id, incident_notified, incident_told, notified_at
    from alert_state
    where check_at <= statement_timestamp()
    order by check_at limit 1000
    for update skip locked
)
select due.*, statement_timestamp() as now, device.device_id, rule.name as rule_name, rule.metric, for_s, cooldown_s,
       coalesce(rule.severity, 'warning') as severity, silence.since as silent_since, sleep.slept_s,
       case when due.rule_id = 'silent' then (select array_agg(name) from channel where silent)
            else rule.channels end as channels,
       is_silenced(device.device_id, device.tags, due.rule_id) as muted
from due
join device using (device_no)
left join rule on rule.rule_id = due.rule_id and rule.enabled
cross join lateral (select greatest(due.received_at, rule.in_force_from, $1) as since) silence
cross join lateral (
    select coalesce(sum(extract(epoch from least(until, statement_timestamp()) - greatest(since, silence.since))), 0)
               ::float8 as slept_s
    from (select state, since, lead(since, 1, 'infinity') over (order by since) as until
          from (select state, (body ->> 'since')::timestamptz as since from outbox
                where kind = 'presence' and outbox.device_id = device.device_id and outbox.rule_id is null
                order by block desc, n desc limit 200) latest
         ) change
    where state = 'asleep' and until > silence.since and due.incident_id is null
) sleep

-- open_no_data_incidents --
insert into incident (device_no, rule_id, severity, opened_at, metric)
select * from unnest($1::int[], $2::text[], $3::text[], $4::timestamptz[], $5::text[])
on conflict do nothing
returning device_no, rule_id, incident_id

-- save_pairs --
update alert_state s set check_at = new.check_at, incident_id = new.incident_id, notified_at = new.notified_at,
    incident_notified = new.incident_notified, incident_told = new.incident_told
from unnest($1::int[], $2::text[], $3::timestamptz[], $4::bigint[], $5::timestamptz[], $6::bool[], $7::bool[])
         as new (device_no, rule_id, check_at, incident_id, notified_at, incident_notified, incident_told)
where s.device_no = new.device_no and s.rule_id = new.rule_id
