-- Questions of the API. Bodies are written by the server, so that a large answer stalls no loop.

-- find_device --
select device_no, device_id, profile from device where device_id = $1

-- device_events --
-- Newest first, from a key on.
select ts, event_id, json_build_object(
    'event_id', event_id, 'device_id', $2::text, 'timestamp', rfc3339(ts), 'metrics', metrics,
    'tags', tags, 'seq', seq, 'received_at', rfc3339(received_at))::text as body
from event
where device_no = $1 and ts >= $3 and ts < $4
  and ts <= $5 and (ts < $5 or event_id < $6)
order by ts desc, event_id desc
limit $7

-- search_events --
-- Newest first, from a key on, of all devices; the event holds every tag of $1.
select ts, event_id, device_id, json_build_object(
    'event_id', event_id, 'device_id', device_id, 'timestamp', rfc3339(ts), 'metrics', metrics,
    'tags', event.tags, 'seq', seq, 'received_at', rfc3339(received_at))::text as body
from event join device using (device_no)
where event.tags @> $1::text[] and ts >= $2 and ts < $3
  and ts <= $4 and (ts < $4 or (event_id, device_id) < ($5, $6))
order by ts desc, event_id desc, device_id desc
limit $7

-- device_metrics --
-- Oldest first, the first $5 of the range.
select json_build_object(
    'device_id', $2::text,
    'truncated', count(*) > $5,
    'points', coalesce(json_agg(json_build_object('timestamp', rfc3339(ts), 'metrics', metrics)
                                order by ts, event_id) filter (where n <= $5), '[]'))::text
from (
    select ts, event_id, metrics, row_number() over (order by ts, event_id) as n
    from event
    where device_no = $1 and ts >= $3 and ts < $4
    order by ts, event_id
    limit $5 + 1
) page

-- device_summary --
-- Sums are exact (numeric): two huge values make no overflow on the way to their average.
select json_object_agg(metric, json_build_object(
    'count', n, 'min', plain(low), 'max', plain(high), 'avg', plain(total / n)) order by metric)::text
from (
    select metric, count(*) as n, min(value) as low, max(value) as high, sum(value) as total
    from event, lateral (select key as metric, value::numeric as value from jsonb_each(metrics)) v
    where device_no = $1 and ts >= $2 and ts < $3
    group by metric
) day

-- profile_metrics --
select jsonb_object_keys(metrics) as metric from profile where name = $1 order by 1

-- aggregate_fixed --
-- Buckets of a fixed length from the Unix epoch. $2: device numbers, null for the fleet.
select json_agg(json_build_object(
    'bucket', rfc3339(bucket), 'count', n, 'sum', plain(total), 'avg', plain(total / n),
    'min', plain(low), 'max', plain(high)) order by bucket)::text as body, count(*) as rows
from (
    select date_bin($5, ts, 'epoch') as bucket, count(*) as n, sum(value) as total,
           min(value) as low, max(value) as high
    from (select ts, (metrics -> $1)::numeric as value from event
          where ts >= $3 and ts < $4 and metrics ? $1
            and ($2::int[] is null or device_no = any($2))) sample
    group by bucket
    limit $6 + 1
) buckets

-- list_devices --
select device_id, json_build_object(
    'device_id', device_id, 'name', name, 'profile', coalesce(profile, $1), 'tags', tags,
    'registered', registered, 'created_at', rfc3339(created_at),
    'state', state, 'since', rfc3339(since), 'reason', reason, 'last_seen', rfc3339(last_seen))::text as body
from device join presence using (device_no)
where device_id > $2
  and ($3::text is null or state = $3)
  and ($4::text is null or tags @> array[$4])
  and ($5::text is null or strpos(lower(device_id), lower($5)) > 0 or strpos(lower(name), lower($5)) > 0)
order by device_id
limit $6

-- one_device --
select json_build_object(
    'device_id', device_id, 'name', name, 'profile', coalesce(profile, $1), 'tags', tags,
    'registered', registered, 'created_at', rfc3339(created_at),
    'state', state, 'since', rfc3339(since), 'reason', reason, 'last_seen', rfc3339(last_seen))::text as body
from device join presence using (device_no)
where device_id = $2

-- one_presence --
select json_build_object(
    'device_id', device_id, 'state', state, 'since', rfc3339(since), 'reason', reason,
    'last_seen', rfc3339(last_seen))::text as body
from device join presence using (device_no)
where device_id = $1

-- device_numbers --
select device_no from device where device_id = any($1::text[])

-- add_rule --
insert into rule (device_id, tag, metric, op, threshold, name, severity, for_s, clear_threshold,
                  cooldown_s, notify, enabled)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
returning *

-- rules_changed --
-- In the transaction of the change: from its commit on every writer works with the new rules.
update config set rules_version = rules_version + 1

-- list_rules --
select * from rule order by created_at, rule_id

-- one_rule --
select * from rule where rule_id = $1
