-- What the database user of ingest, api and schedule may do (schema/app_role.py). $1 is its name.

-- app_role --
-- The user, and whether it could act as the owner of the tables.
select app.rolsuper as is_superuser, pg_has_role(app.oid, owner.oid, 'member') as is_owner, owner.rolname as owner
from pg_roles app, pg_class event join pg_roles owner on owner.oid = relowner
where app.rolname = $1 and event.oid = 'event'::regclass

-- grants --
-- Statements that give it all that it needs, and no more. The default privileges are for tables that later
-- migrations create. Two records are not its to change: which migrations were applied, and the audit.
with home as (
    select relowner, relnamespace, relowner::regrole as owner, relnamespace::regnamespace as schema
    from pg_class where oid = 'event'::regclass
), ours as (
    select c.oid::regclass::text as name, relkind from pg_class c join home using (relowner, relnamespace)
)
select format('grant usage on schema %s to %I', schema, $1::text) as statement from home
union all
select format('grant select, insert, update, delete on %s to %I', string_agg(name, ', '), $1) from ours
where relkind in ('r', 'p')
union all
select format('grant select on %s to %I', name, $1) from ours where relkind = 'v'
union all
select format('grant usage, select, update on sequence %s to %I', string_agg(name, ', '), $1) from ours
where relkind = 'S'
union all
select 'revoke execute on function make_event_partitions(timestamptz, timestamptz) from public'  -- A restore grants it.
union all
select format('grant execute on function make_event_partitions(timestamptz, timestamptz) to %I', $1)
union all
select format('alter default privileges for role %s in schema %s grant %s to %I', owner, schema, rights, $1)
from home, unnest(array['select, insert, update, delete on tables', 'usage, select, update on sequences']) rights
union all
select format('revoke insert, update, delete on schema_migration from %I', $1)
union all
select format('revoke update, delete on audit from %I', $1)
union all
select format('revoke create on schema %s from public', schema) from home
where has_schema_privilege($1, schema, 'create')
union all
select format('revoke temporary on database %I from public', current_database())
where has_database_privilege($1, current_database(), 'temporary')

-- faults --
-- What it still may not do but must, or may do but must not, and what its administrator can do about it.
with home as (
    select relnamespace::regnamespace as schema, relowner from pg_class where oid = 'event'::regclass
), ours as (
    select oid, oid::regclass::text as name from pg_class
    where relowner = (select relowner from home) and relnamespace = (select schema from home) and relkind in ('r', 'p')
)
select 'it may not connect to the database' as fault,
       format('grant connect on database %I to %I', current_database(), $1::text) as remedy
where not has_database_privilege($1, current_database(), 'connect')
union all
select 'it may not use the schema ' || schema, format('grant usage on schema %s to %I', schema, $1) from home
where not has_schema_privilege($1, schema, 'usage')
union all
select 'it may create tables in the schema ' || schema, format('revoke create on schema %s from public, %I', schema, $1)
from home where has_schema_privilege($1, schema, 'create')
union all
select 'it may create schemas', format('revoke create on database %I from public, %I', current_database(), $1)
where has_database_privilege($1, current_database(), 'create')
union all
select 'it may create temporary tables',
       format('revoke temporary on database %I from public, %I', current_database(), $1)
where has_database_privilege($1, current_database(), 'temporary')
union all
select 'it may change the record of migrations', format('end the memberships of %I in other roles', $1)
where has_table_privilege($1, 'schema_migration', 'insert, update, delete')
union all
select 'it may change what the audit has recorded', format('end the memberships of %I in other roles', $1)
where has_table_privilege($1, 'audit', 'update, delete')
union all
select 'it owns ' || string_agg(c.oid::regclass::text, ', '), format('reassign owned by %I to %s', $1, home.relowner::regrole)
from home, pg_class c where c.relowner = to_regrole(quote_ident($1)) group by home.relowner
union all
select format('it may not read and write %s', string_agg(name, ', ')),
       format('grant select, insert, update, delete on %s to %I', string_agg(name, ', '), $1)
from ours where name not in ('schema_migration', 'audit')
    and not (has_table_privilege($1, oid, 'select') and has_table_privilege($1, oid, 'insert')
             and has_table_privilege($1, oid, 'update') and has_table_privilege($1, oid, 'delete'))
having count(*) > 0
