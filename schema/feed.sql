-- The feed, which every role uses (schema/feed.py).

-- next_block --
select nextval('outbox_block')

-- number_and_commit --
select pg_advisory_xact_lock(:feed_lock);
insert into feed (last_id, first_id, block)
select last, last - {rows} + 1, {block}
from (select setval('feed_no', nextval('feed_no') + {rows} - 1) as last) numbered;
notify voltwire_feed;
commit

-- read_feed --
select feed.first_id + outbox.n as id, kind, device_id, rule_id, state, late, body
from feed join outbox using (block)
where feed.last_id > $1 and feed.first_id + outbox.n > $1
order by feed.last_id, outbox.n
limit $2

-- newest_feed_id --
select coalesce(max(last_id), 0) from feed
