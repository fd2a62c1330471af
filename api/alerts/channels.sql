-- Channels over HTTP. What they hold of secrets is never read here.

-- list_channels --
-- The channels after a name, by name; or one of them.
select name, row_to_json(shown)::text as body
from (
    select name, shown_url as url, secret is not null as signed, silent,
           case when failing_since is not null then 'retrying' when failure is not null then 'failing' else 'ok' end
               as state,
           rfc3339(delivered_at) as delivered_at, rfc3339(failed_at) as failed_at, failure, attempts,
           rfc3339(next_attempt_at) as next_attempt_at, given_up, rfc3339(created_at) as created_at
    from channel
    where name > $1 and ($3::text is null or name = $3)
    order by name
    limit $2
) shown
order by name

-- channel_secrets --
select url, secret from channel where name = $1 for update

-- insert_channel --
-- It begins with the next notification. Nothing is inserted beyond $5 channels.
insert into channel (name, url, shown_url, secret, silent, delivered_id)
select $1, $2, $3, $4, $6, coalesce((select max(last_id) from feed), 0)
where (select count(*) from channel) < $5
on conflict (name) do nothing
returning name

-- update_channel --
-- Another address starts without the failures of the former one.
update channel set url = $2, shown_url = $3, secret = $4,
    failing_since = null, attempts = 0, next_attempt_at = null, failed_at = null, failure = null
where name = $1 and (url, secret) is distinct from ($2, $4)

-- set_silent --
update channel set silent = $2 where name = $1

-- delete_channel --
delete from channel where name = $1 returning name

-- channel_exists --
select exists (select from channel where name = $1)

-- request_test --
insert into channel_test (channel) values ($1) returning test_id

-- test_result --
select finished_at is not null as finished, failure from channel_test where test_id = $1
