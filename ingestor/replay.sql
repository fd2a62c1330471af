-- Dead letters for ingestor/replay.py.

-- selected_dead_letters --
-- The dead letters of a ReplaySelection, whose `parameters` are $1 to $8: {selected} in the next two queries.
-- A truncated one holds no event any more; like one that was replayed before, it must be selected by number.
select rejected_id, received_at, door, device_id, reason, item, payload from rejected
where rejected_id > $1
  and case when $2::bigint[] is null then replayed_at is null and reason <> 'too_large'
           else rejected_id = any($2) end
  and ($3::text is null or device_id = $3)
  and ($4::text is null or reason = $4)
  and ($5::text is null or door = $5)
  and ($6::timestamptz is null or received_at >= $6)
  and ($7::timestamptz is null or received_at < $7)
  and ($8::bigint is null or rejected_id <= $8)

-- read_dead_letters --
-- One page, oldest first: at most $9 dead letters, and no more once they hold $10 bytes.
with page as (
    select *, row_number() over oldest as n,
           sum(octet_length(payload)) over oldest - octet_length(payload) as bytes_before
    from ({selected} order by rejected_id limit $9 + 1) selected
    window oldest as (order by rejected_id)
)
select rejected_id, received_at, door, device_id, reason, item, payload,
       (select max(n) from page) as found
from page
where n <= $9 and bytes_before < $10
order by n

-- count_dead_letters --
-- The number of selected dead letters per reason, and the newest of them.
select reason, count(*) as dead_letters, max(rejected_id) as newest from ({selected}) selected
group by reason
order by dead_letters desc, reason

-- mark_replayed --
-- The time of the first replay stays.
update rejected set replayed_at = statement_timestamp()
where rejected_id = any($1::bigint[]) and replayed_at is null
