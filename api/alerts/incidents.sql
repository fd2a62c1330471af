-- Incidents: what rules found, and who knows of it.

-- list_incidents --
-- Newest first, with numbers below $1; of the state $2 (`open`: not resolved), the device $3, the rule $4, the severity
-- $5, opened in [$6, $7); only the incident $9, if it is given. An open incident is muted by its device and rule, by the
-- tags of the device, and by those of the event that opened it.
select id as incident_id, row_to_json(shown)::text as body
from (
    select incident_id as id, device.device_id, incident.rule_id, rule.name as rule_name, incident.severity,
           case when resolved_at is not null then 'resolved' when acknowledged_at is not null then 'acknowledged'
                else 'firing' end as state,
           incident.metric, incident.op, json_number(incident.threshold::numeric)::json as threshold,
           rfc3339(opened_at) as opened_at, opened_by, json_number(opened_value::numeric)::json as opened_value,
           rfc3339(recorded_at) as recorded_at, rfc3339(acknowledged_at) as acknowledged_at, acknowledged_by,
           acknowledged_note, rfc3339(resolved_at) as resolved_at, resolved_by,
           resolved_at is null and is_silenced(device.device_id, device.tags || event.tags, incident.rule_id) as muted
    from incident
    join device using (device_no)
    left join rule using (rule_id)
    left join lateral (
        select tags from event
        where resolved_at is null and event.device_no = incident.device_no and ts = opened_at and event_id = opened_by
          and exists (select from silence where tag is not null and ends_at > statement_timestamp())
    ) event on true
    where incident_id < $1
      and ($2::text is null or case $2
          when 'open' then resolved_at is null
          when 'firing' then resolved_at is null and acknowledged_at is null
          when 'acknowledged' then resolved_at is null and acknowledged_at is not null
          else resolved_at is not null end)
      and ($3::text is null or device_no = (select device_no from device where device_id = $3))
      and ($4::text is null or incident.rule_id = $4)
      and ($5::text is null or incident.severity = $5)
      and ($6::timestamptz is null or opened_at >= $6)
      and ($7::timestamptz is null or opened_at < $7)
      and ($9::bigint is null or incident_id = $9)
    order by incident_id desc
    limit $8
) shown
order by id desc

-- incident_history --
-- What happened to the incident $1, in the order of its states. Times are event times where an event did it.
select '[' || string_agg(json_strip_nulls(row_to_json(shown))::text, ',' order by n) || ']'
from (
    select 1 as n, 'firing' as state, rfc3339(opened_at) as at, opened_by as event_id,
           json_number(opened_value::numeric)::json as value, null as by, null as note
    from incident where incident_id = $1
    union all
    select 2, 'acknowledged', rfc3339(acknowledged_at), null, null, acknowledged_by, acknowledged_note
    from incident where incident_id = $1 and acknowledged_at is not null
    union all
    select 3, 'resolved', rfc3339(resolved_at), resolved_by, null, null, null
    from incident where incident_id = $1 and resolved_at is not null
) step, lateral (select state, at, event_id, value, by, note) shown

-- device_of_incident --
select device_no from incident where incident_id = $1

-- acknowledge --
-- An open incident keeps its first acknowledgement.
with acknowledged as (
    update incident set acknowledged_at = statement_timestamp(), acknowledged_by = $2, acknowledged_note = $3
    where incident_id = $1 and resolved_at is null and acknowledged_at is null
    returning device_no, incident_id, rule_id, severity, metric, op, threshold, acknowledged_at
)
select acknowledged.*, device_id, name as rule_name, is_silenced(device_id, tags, rule_id) as muted
from acknowledged
join (select device_no, device_id, tags from device) device using (device_no)
left join (select rule_id, name from rule) rule using (rule_id)

-- is_acknowledged --
select acknowledged_at is not null from incident where incident_id = $1
