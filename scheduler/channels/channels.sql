-- Channels as the scheduler delivers to them (scheduler/channels/).

-- all_channels --
select name, url, secret from channel order by name

-- position --
-- How far a channel has come, and when its next attempt is due.
select delivered_id, attempts,
       extract(epoch from next_attempt_at - clock_timestamp())::float8 as next_attempt_in_s
from channel where name = $1

-- feed_part_end --
-- How far to read the feed after a number, null if nothing follows. A bounded part at a time keeps a channel that lags
-- from reading all of it again and again.
select max(last_id) from
    (select last_id from feed where last_id > $1 order by last_id limit :feed_rows_max) part

-- pending --
-- The next notifications of a channel after the number $2 of the feed, up to $5. The end is known before, so that what
-- is committed meanwhile is not taken for read.
-- An alert may come later than its incident opened: a cooldown or a silence kept it back.
with part as materialized (
    select first_id, last_id, block, committed_at from feed where last_id > $2 and last_id <= $5
)
select part.first_id + outbox.n as id, kind, outbox.device_id, outbox.rule_id, state, late, outbox.body, device.name as device_name,
       extract(epoch from clock_timestamp() - part.committed_at)::float8 as age_s,
       (profile.metrics -> (outbox.body ->> 'metric')) ->> 'unit' as unit, rfc3339(opened_at) as opened_at
from part
join outbox using (block)
left join device on device.device_id = outbox.device_id
left join profile on profile.name = coalesce(device.profile, $3)
left join incident on incident.device_no = device.device_no and incident_id = (outbox.body ->> 'incident_id')::bigint
where outbox.channels @> array[$1] and part.first_id + outbox.n > $2
order by 1
limit $4

-- save_delivered --
-- After a delivery, or when a notification is given up ($3 of them).
update channel set
    delivered_id = greatest(delivered_id, $2), given_up = given_up + $3,
    delivered_at = case when $3 = 0 then clock_timestamp() else delivered_at end,
    failing_since = null, attempts = 0, next_attempt_at = null,
    failed_at = case when $4::text is null then failed_at else clock_timestamp() end,
    failure = case when $3 = 0 then null else coalesce($4, failure) end
where name = $1

-- save_skipped --
-- There is nothing for this channel up to this number.
update channel set delivered_id = greatest(delivered_id, $2) where name = $1

-- save_failure --
update channel set
    failing_since = coalesce(failing_since, clock_timestamp()), attempts = attempts + 1,
    next_attempt_at = clock_timestamp() + make_interval(secs => $2),
    failed_at = clock_timestamp(), failure = $3
where name = $1

-- waiting_tests --
select test_id, channel, url, secret from channel_test join channel on channel.name = channel_test.channel
where finished_at is null and requested_at > clock_timestamp() - interval '1 minute'
order by test_id limit 100

-- finish_test --
update channel_test set finished_at = clock_timestamp(), failure = $2 where test_id = $1

-- prune_tests --
delete from channel_test where requested_at < clock_timestamp() - interval '1 day'
