-- What backup and restore ask of a server. A %I stands for a name that format() quotes.

-- holds_tables --
-- Whether Voltwire has migrated this database.
select to_regclass('schema_migration') is not null

-- database_name --
select current_database()

-- table_exists --
select to_regclass($1) is not null

-- contents --
-- What restore must not overwrite unasked: {table} holds something.
select exists (select from {table})

-- sessions --
-- The programs connected to this database, apart from us. Of other users' only the login is shown to us.
select coalesce(nullif(application_name, ''), 'a program of the login ' || usename)
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()
  and usename is not null and coalesce(backend_type, 'client backend') = 'client backend'
order by 1

-- feed_number --
-- The newest number of the feed that this database gave.
select last_value from feed_no

-- raise_feed_numbers --
-- Above those of the backup, those of the replaced database ($1), and, by the clock, those that a lost database
-- gave after the backup: microseconds grow faster than any feed, and fit a double until the year 2255.
select setval('feed_no', greatest(last_value, $1, (extract(epoch from clock_timestamp()) * 1e6)::bigint))
from feed_no

-- estimate_events --
-- After analyze. A partition without rows has -1 or 0.
select coalesce(sum(greatest(reltuples, 0)), 0)::bigint from pg_class
where oid in (select inhrelid from pg_inherits where inhparent = 'event'::regclass)

-- count_events --
select count(*) from event

-- take_lock --
-- One restore of a database at a time; the lock ends with this connection, to the maintenance database.
select pg_try_advisory_lock(:restore_lock, hashtext($1))

-- database_exists --
select exists (select from pg_database where datname = $1)

-- may_rename --
-- Its owner may, and a superuser.
select pg_has_role(datdba, 'usage') from pg_database where datname = $1

-- is_ours --
-- Whether a database is one that a restore made or put aside.
select shobj_description(oid, 'pg_database') = 'voltwire restore' from pg_database where datname = $1

-- create_like --
-- A statement: an empty database $2 with owner, encoding, locale and tablespace of $1.
select format(
    'create database %I template template0 owner %I encoding %L lc_collate %L lc_ctype %L locale_provider %s',
    $2::text, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype,
    case datlocprovider when 'b' then 'builtin builtin_locale ' || quote_literal(datlocale)
                        when 'i' then 'icu icu_locale ' || quote_literal(datlocale) else 'libc' end
    || coalesce((select format(' tablespace %I', spcname) from pg_tablespace t
                 where t.oid = dattablespace and spcname <> 'pg_default'), ''))
from pg_database where datname = $1

-- create_new --
-- A statement: an empty database $1 as this server makes it.
select format('create database %I template template0 encoding ''UTF8''', $1::text)

-- mark --
-- A statement: know this database again as ours.
select format('comment on database %I is ''voltwire restore''', $1::text)

-- unmark --
-- A statement: the restored database is an ordinary one.
select format('comment on database %I is null', $1::text)

-- rename --
-- A statement.
select format('alter database %I rename to %I', $1::text, $2::text)

-- drop --
-- A statement; it ends what a killed restore left connected.
select format('drop database %I with (force)', $1::text)
