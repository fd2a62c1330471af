-- What subscribers know of an incident, and the devices whose events are being deleted.

-- Whether a notification of the open incident was sent; a cooldown may have suppressed all of them. Only then is
-- its end notified, and until then the first violation after the cooldown is.
alter table alert_state add column incident_notified bool not null default false;
update alert_state set incident_notified = exists (
    select from outbox join device using (device_id)
    where kind = 'alert' and device.device_no = alert_state.device_no and outbox.rule_id = alert_state.rule_id
      and (body ->> 'incident_id')::bigint = alert_state.incident_id)
where incident_id is not null;

-- Numbers of devices that were deleted with their events (schema/deleted_devices.py deletes what they leave).
create table deleted_device (
    device_no int primary key,
    deleted_at timestamptz not null default clock_timestamp()
);

-- RFC 3339 in UTC with six digits of a fraction, for files: some readers expect one form in a column.
create function rfc3339_us(instant timestamptz) returns text
language sql stable parallel safe
return to_char(instant at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- The metrics of an event as JSON, with numbers in the form of json_number. Only very large and very small ones
-- have another form in jsonb, which writes all their digits. Two functions, because the planner writes out only one
-- without a query in it.
create function json_metrics_rewritten(metrics jsonb) returns json
language sql immutable parallel safe
return (select ('{' || string_agg(to_json(key) || ': ' || json_number(value::numeric), ', ') || '}')::json
        from jsonb_each(metrics));

create function json_metrics(metrics jsonb) returns json
language sql stable parallel safe
return case when metrics::text ~ '": -?([0-9]{16}|0[.]0{6})' then json_metrics_rewritten(metrics)
            else metrics::text::json end;
