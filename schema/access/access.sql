-- insert_credential --
-- Nothing is inserted if one of this kind and name is in force.
insert into credential (kind, name, scopes, digest, broker_salt, broker_hash)
values ($1, $2, $3, $4, $5, $6)
on conflict (kind, name) where valid_until is null do nothing
returning credential_id

-- end_after_overlap --
-- The secret in force stays valid for an overlap of $3 seconds; returns its scopes. At most two are valid at a time.
with former as (delete from credential where kind = $1 and name = $2 and valid_until is not null)
update credential set valid_until = clock_timestamp() + make_interval(secs => $3)
where kind = $1 and name = $2 and valid_until is null
returning scopes

-- delete_credentials --
-- Every secret of this kind (null: of any) and name.
delete from credential where kind = coalesce($1, kind) and name = any($2) returning kind, name

-- valid_numbers --
-- What is valid now, the oldest first, and in how many seconds the first of them ends.
select coalesce(array_agg(credential_id order by credential_id), '{}') as numbers,
       extract(epoch from min(valid_until) - clock_timestamp())::float8 as ends_in_s
from credential
where valid_until is null or valid_until > clock_timestamp()

-- credentials_by_number --
select credential_id, kind, name, scopes, digest from credential where credential_id = any($1)

-- broker_logins --
-- What the files of a broker hold: one secret per name. After a rotation that is the former one until its overlap
-- ends. `ends_in_s`: in how many seconds the first overlap ends.
select distinct on (kind, name) kind, name, scopes, broker_salt, broker_hash,
       extract(epoch from min(valid_until) over () - clock_timestamp())::float8 as ends_in_s
from credential
where valid_until is null or valid_until > clock_timestamp()
order by kind, name, valid_until

-- last_member --
-- The highest number of a member of $1 whose session may hold messages.
select coalesce(max(number), 1) from ingest_member where instance = $1

-- delete_ended --
-- Secrets whose overlap is over, and sessions of browsers that have expired.
with secrets as (delete from credential where valid_until <= clock_timestamp())
delete from browser_session where expires_at <= clock_timestamp()

-- list_credentials --
-- The credentials in force, by name, after the name $2.
select name, kind, scopes, created_at, last_used_at from credential
where kind = any($1) and valid_until is null and name > $2
order by name, kind limit $3

-- list_devices --
-- Devices with a secret in force, or whose certificates are accepted, by name, after the name $1.
select name as device_id, bool_or(kind = 'device') as secret, bool_or(kind = 'certificate') as certificate,
       min(created_at) as created_at, max(last_used_at) as last_used_at
from credential
where kind in ('device', 'certificate') and valid_until is null and name > $1
group by name
order by name limit $2

-- save_last_used --
-- The time only moves forward: several processes save it.
update credential set last_used_at = used.at
from unnest($1::bigint[], $2::timestamptz[]) as used (credential_id, at)
where credential.credential_id = used.credential_id
  and (last_used_at is null or last_used_at < used.at)

-- any_admin --
-- Whether somebody can administer this installation.
select exists (select from credential where kind = 'key' and 'admin' = any(scopes) and valid_until is null)

-- lock_admin_keys --
-- The names of the admin keys. Nobody else can delete one of them before this transaction ends.
select name from credential where kind = 'key' and 'admin' = any(scopes) and valid_until is null
order by credential_id for update

-- insert_session --
-- A session of the valid key $2, for $3 seconds. If the key then has more than $4 sessions, the oldest end.
with ended as (
    delete from browser_session where digest in (
        select digest from browser_session where credential_id = $2 order by created_at desc offset $4 - 1)
)
insert into browser_session (digest, credential_id, expires_at)
select $1, credential_id, clock_timestamp() + make_interval(secs => $3) from credential
where credential_id = $2 and (valid_until is null or valid_until > clock_timestamp())
returning true

-- delete_session --
delete from browser_session where digest = $1

-- valid_sessions --
select digest, credential_id, extract(epoch from expires_at - clock_timestamp())::float8 as left_s
from browser_session where expires_at > clock_timestamp()

-- may_delete_audit --
select has_table_privilege('audit', 'delete')

-- delete_old_audit --
delete from audit where at < clock_timestamp() - make_interval(days => $1)

-- insert_audit --
-- A row of the audit.
insert into audit (actor, address, action, target, details) values ($1, $2, $3, $4, $5::jsonb)
