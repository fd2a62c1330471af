-- A login that only reads, for Grafana and other programs that query the tables. Run it as an administrator
-- of the database, again after an upgrade or a restore:
--   GRAFANA_PASSWORD='a password' psql postgresql://postgres@db.example/voltwire -f deploy/grafana/reader.sql
\set ON_ERROR_STOP on
\getenv password GRAFANA_PASSWORD
\if :{?password}
\else
do $$ begin raise 'Set GRAFANA_PASSWORD to the password that Grafana shall use, then run this file again.'; end $$;
\endif
begin;
select 'create role grafana' where to_regrole('grafana') is null \gexec
alter role grafana login password :'password' connection limit 10;
-- A query that stays open for hours would hold back vacuum and retention.
alter role grafana set statement_timeout = '30s';
alter role grafana set idle_in_transaction_session_timeout = '60s';
-- This prevents mistakes only: what keeps the login from writing is that nobody granted it.
alter role grafana set default_transaction_read_only = on;
grant usage on schema public to grafana;
grant select on events, readings, event, rollup, device, profile, presence, rule, incident to grafana;
commit;
