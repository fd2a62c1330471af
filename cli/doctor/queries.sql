-- What `voltwire doctor` asks the database. Every query is short.

-- members --
-- The ingest members of $1: the age of the newest canary that each received.
select number, extract(epoch from clock_timestamp() - received_at)::float8 as age_s
from ingest_member left join canary using (client_id)
where instance = $1
order by number

-- any_relay --
-- Whether a scheduler publishes alerts and presence: it holds a lease for that.
select exists (
    select from pg_locks
    where locktype = 'advisory' and classid = :relay_lock and objsubid = 2 and granted
      and database = (select oid from pg_database where datname = current_database())
)

-- clock --
select clock_timestamp()

-- rejected_lately --
-- Dead letters of the last hour, by reason.
select reason, count(*) as letters from rejected
where received_at > clock_timestamp() - interval '1 hour' and replayed_at is null
group by reason
order by letters desc, reason
