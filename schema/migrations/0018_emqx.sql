-- What EMQX's PostgreSQL authenticator and authorizer query: who may log in, and what they may do. They read with
-- the rights of their owner, so EMQX's role needs `select` on these two views and on nothing else.

-- Both are asked for one name at each login; the unique index holds only secrets without an end.
create index credential_name on credential (kind, name);

-- A secret: PBKDF2 with SHA-512, 1 iteration and 64 bytes, in hexadecimal, of the salt as text. Of a rotated one it
-- is the former until its overlap ends, as in Mosquitto's files.
create view mqtt_user as
select login.username, login.username as client_id, encode(broker_hash, 'hex') as password_hash,
       broker_salt as salt, false as is_superuser
from (
    (select distinct on (name) name as username, broker_hash, broker_salt
     from credential
     where kind = 'device' and (valid_until is null or valid_until > statement_timestamp())
     order by name, valid_until)
    union all
    (select distinct on (name) '_key.' || name, broker_hash, broker_salt
     from credential
     where kind = 'key' and scopes && '{ingest,read}'
       and (valid_until is null or valid_until > statement_timestamp())
     order by name, valid_until)
) as login;

-- What is not listed is denied. A device may have a secret, a certificate with its name, or both.
create view mqtt_acl as
select device.name as username, 'allow' as permission, own.action, 'devices/' || name || own.topic as topic
from (
    select distinct name from credential
    where kind in ('device', 'certificate') and (valid_until is null or valid_until > statement_timestamp())
) as device
cross join (values
    ('publish', '/telemetry'),
    ('publish', '/status'),
    ('publish', '/heartbeat'),
    ('subscribe', '/receipts'),
    ('subscribe', '/receipts/#')) as own (action, topic)
union all
select '_key.' || key.name, 'allow', allowed.action, allowed.topic
from (
    select distinct on (name) name, scopes from credential
    where kind = 'key' and (valid_until is null or valid_until > statement_timestamp())
    order by name, valid_until
) as key
join (values
    ('ingest', 'publish', 'devices/+/telemetry'),
    ('ingest', 'publish', 'devices/+/status'),
    ('ingest', 'publish', 'devices/+/heartbeat'),
    ('read', 'subscribe', 'alerts/#'),
    ('read', 'subscribe', 'presence/#')) as allowed (scope, action, topic)
  on allowed.scope = any(key.scopes);
