-- What every role asks of the server itself (schema/database.py).

-- unsafe_settings --
-- The settings with which a crash may lose commits.
select coalesce(string_agg(name || '=' || setting, ', ' order by name), '') from pg_settings
where setting = 'off' and name in ('fsync', 'full_page_writes', 'synchronous_commit')
