-- The members of an instance, which every role watches (schema/members.py).

-- members --
-- The members of $1, and whether their canary did not come back within the last seconds.
select number,
       coalesce(received_at < statement_timestamp() - make_interval(secs => :canary_stale_s), true) as silent
from ingest_member left join canary using (client_id)
where instance = $1
order by number
