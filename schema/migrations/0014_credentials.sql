-- Who may do what: credentials, the sessions of browsers, and the audit of what was changed.

-- A row per secret; during the overlap of a rotation a device or key has two. Secrets hold 256 random bits, so
-- a fast hash protects them: SHA-256 of the whole text for us, PBKDF2-SHA512 in the forms that brokers read.
create table credential (
    credential_id bigint generated always as identity primary key,
    kind text not null check (kind in ('device', 'key', 'certificate')),
    name text collate "C" not null,   -- the device_id, or the name of the key
    scopes text[] not null default '{}' check (scopes <@ '{ingest,read,metrics,admin}'),
    digest bytea,
    broker_salt text,                 -- ASCII: Mosquitto's file holds it in Base64, EMQX hashes the text
    broker_hash bytea,
    created_at timestamptz not null default clock_timestamp(),
    valid_until timestamptz,          -- the end of an overlap; null: in force until revoked
    last_used_at timestamptz,         -- to the minute
    check ((kind = 'certificate') = (digest is null and broker_salt is null and broker_hash is null)),
    check ((kind = 'key') = (cardinality(scopes) > 0))
);
create unique index credential_in_force on credential (kind, name) where valid_until is null;
create unique index credential_digest on credential (digest);

-- Every process holds the credentials in memory and reads them again when this channel calls.
create function notify_credentials() returns trigger language plpgsql as $$
begin
    perform pg_notify('voltwire_credentials', '');
    return null;
end $$;
create trigger notify_credentials
    after insert or delete or update of kind, name, scopes, digest, valid_until on credential
    for each statement execute function notify_credentials();

-- A browser that showed a key: the hash of its cookie. It ends with its key.
create table browser_session (
    digest bytea primary key,
    credential_id bigint not null references credential on delete cascade,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null
);
create index browser_session_credential on browser_session (credential_id);
create index browser_session_expires_at on browser_session (expires_at);

-- Administrative acts and failed logins. It never holds a secret.
create table audit (
    audit_id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    actor text not null,      -- 'key:NAME', 'device:ID', 'command' for the command line, 'anyone' without authentication
    address text,             -- null: not over the network
    action text not null,     -- such as 'key.create', 'rule.update', 'login.failed'
    target text,
    details jsonb not null default '{}'
);
create index audit_at on audit (at);
