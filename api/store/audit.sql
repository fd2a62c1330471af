-- The audit.

-- list_audit --
-- Newest first, with numbers below $1. json_strip_nulls writes jsonb without white space.
select audit_id, (select row_to_json(shown) from (
    select audit_id as id, rfc3339(at) as at, actor, address, action, target,
           json_strip_nulls(details::json) as details) shown)::text as body
from audit
where audit_id < $1
  and ($2::text is null or actor = $2)
  and ($3::text is null or action = $3)
  and ($4::text is null or target = $4)
  and ($5::text is null or address = $5)
  and ($6::timestamptz is null or at >= $6)
  and ($7::timestamptz is null or at < $7)
order by audit_id desc
limit $8
