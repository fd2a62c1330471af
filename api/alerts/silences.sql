-- Silences: which alerts channels do not get.

-- list_silences --
-- Newest first, with numbers below $1; only the silence $3, if it is given.
select id as silence_id, row_to_json(shown)::text as body
from (
    select silence_id as id, device_id, tag, rule_id, rfc3339(starts_at) as from_time,
           rfc3339(ends_at) as to_time, reason, rfc3339(created_at) as created_at,
           starts_at <= statement_timestamp() and ends_at > statement_timestamp() as active
    from silence
    where silence_id < $1 and ($3::bigint is null or silence_id = $3)
    order by silence_id desc
    limit $2
) shown
order by id desc

-- add_silence --
-- Without $4 it starts now. Returns no row if it would have ended already.
insert into silence (device_id, tag, rule_id, starts_at, ends_at, reason)
select $1, $2, $3, coalesce($4::timestamptz, statement_timestamp()), $5::timestamptz, $6
where $5::timestamptz > statement_timestamp()
returning silence_id

-- delete_silence --
delete from silence where silence_id = $1 returning silence_id
