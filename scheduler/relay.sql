-- The outbox relay (scheduler/relay.py): its position, the retained messages, and the pruning of the outbox.

-- feed_position --
select last_id from feed_position where reader = $1

-- save_feed_position --
insert into feed_position (reader, last_id) values ($1, $2)
on conflict (reader) do update set last_id = excluded.last_id

-- firing_alerts --
-- The latest alert of each open incident, as its retained message shows it.
select feed.first_id + latest.n as id, latest.*
from incident
join device using (device_no)
cross join lateral (
    select o.block, o.n, o.kind, o.device_id, o.rule_id, o.state, o.late, o.body from outbox o
    where o.kind = 'alert' and o.device_id = device.device_id and o.rule_id = incident.rule_id
      and not o.late and o.state = 'firing'
      and (o.body ->> 'incident_id')::bigint = incident.incident_id
    order by o.block desc, o.n desc limit 1
) latest
join feed using (block)
where incident.resolved_at is null

-- latest_presence --
-- The latest presence of each device on a page of at most $2 devices after $1; a forgotten one has none.
select feed.first_id + latest.n as id, latest.*
from (select device_id from device where device_id > $1 order by device_id limit $2) page
cross join lateral (
    select o.block, o.n, o.kind, o.device_id, o.rule_id, o.state, o.late, o.body from outbox o
    where o.kind = 'presence' and o.device_id = page.device_id
    order by o.block desc, o.n desc limit 1
) latest
join feed using (block)
where latest.state <> 'never_seen'
order by latest.device_id

-- last_device_of_page --
-- The last device of the page of latest_presence; null if the page is empty.
select max(device_id) from (select device_id from device where device_id > $1 order by device_id limit $2) page

-- prune_outbox --
-- Deletes notifications older than NOTIFICATION_DAYS_KEPT, except the latest one of each device and rule that is
-- retained over MQTT: republishing needs it, unless it says that an incident or a device ended.
delete from outbox o using feed f
where f.block = o.block and f.committed_at < statement_timestamp() - make_interval(days => :days_kept)
  and (o.state in ('resolved', 'acknowledged', 'never_seen') or o.late or exists (
      select from outbox newer
      where newer.device_id = o.device_id and newer.kind = o.kind
        and newer.rule_id is not distinct from o.rule_id and newer.state <> 'acknowledged' and not newer.late
        and (newer.block, newer.n) > (o.block, o.n)))

-- prune_feed --
-- Deletes the numbers of blocks without notifications.
delete from feed f
where f.committed_at < statement_timestamp() - make_interval(days => :days_kept)
  and not exists (select from outbox o where o.block = f.block)

-- prune_silences --
delete from silence where ends_at < statement_timestamp() - make_interval(days => :days_kept)
