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

-- count_dead_letters --
-- How many there are per reason and in all, of the device $1, from the door $2, received from $3 to $4.
select row_to_json(shown)::text
from (
    select coalesce(sum(letters), 0) as total, coalesce(sum(replayed), 0) as replayed,
           ('{' || coalesce(string_agg(to_json(reason) || ':' || letters, ',' order by letters desc, reason), '')
            || '}')::json as reasons
    from (
        select reason, count(*) as letters, count(replayed_at) as replayed
        from rejected
        where ($1::text is null or device_id = $1)
          and ($2::text is null or door = $2)
          and ($3::timestamptz is null or received_at >= $3)
          and ($4::timestamptz is null or received_at < $4)
        group by reason
    ) counted
) shown
