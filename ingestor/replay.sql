-- Dead letters for ingestor/replay.py.

-- read_dead_letters --
-- Dead letters to replay, oldest first: at most $9 of them, and no more once they hold $10 bytes. What was
-- cut off holds no event any more; it is taken only when it is named, as one that was replayed before.
with letter as (
    select *, row_number() over oldest as n,
           sum(octet_length(payload)) over oldest - octet_length(payload) as bytes_before
    from (
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
        order by rejected_id
        limit $9 + 1
    ) found
    window oldest as (order by rejected_id)
)
select rejected_id, received_at, door, device_id, reason, item, payload,
       (select max(n) from letter) as found
from letter
where n <= $9 and bytes_before < $10
order by n

-- count_dead_letters --
-- How many read_dead_letters would come to per reason, and the newest of them.
select reason, count(*) as letters, max(rejected_id) as newest from rejected
where rejected_id > $1
  and case when $2::bigint[] is null then replayed_at is null and reason <> 'too_large'
           else rejected_id = any($2) end
  and ($3::text is null or device_id = $3)
  and ($4::text is null or reason = $4)
  and ($5::text is null or door = $5)
  and ($6::timestamptz is null or received_at >= $6)
  and ($7::timestamptz is null or received_at < $7)
  and ($8::bigint is null or rejected_id <= $8)
group by reason
order by letters desc, reason

-- mark_replayed --
-- The first time counts; who replays it once more changes nothing.
update rejected set replayed_at = statement_timestamp()
where rejected_id = any($1::bigint[]) and replayed_at is null
