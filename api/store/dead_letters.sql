-- Dead letters.

-- list_dead_letters --
-- Newest first, with numbers below $1.
select rejected_id, (select row_to_json(shown) from (
    select rejected_id as id, rfc3339(received_at) as received_at, door, device_id, reason, detail, item,
           octet_length(payload) as size_bytes, rfc3339(replayed_at) as replayed_at) shown)::text as body
from rejected
where rejected_id < $1
  and ($2::text is null or device_id = $2)
  and ($3::text is null or reason = $3)
  and ($4::text is null or door = $4)
  and ($5::timestamptz is null or received_at >= $5)
  and ($6::timestamptz is null or received_at < $6)
  and ($7::bool is null or (replayed_at is not null) = $7)
order by rejected_id desc
limit $8

-- one_dead_letter --
select payload, (select row_to_json(shown) from (
    select rejected_id as id, rfc3339(received_at) as received_at, door, device_id, reason, detail, item,
           octet_length(payload) as size_bytes, rfc3339(replayed_at) as replayed_at) shown)::text as body
from rejected where rejected_id = $1
