-- The roles may log in as a user that owns nothing: `voltwire migrate --app-role` grants what they need.

-- Makes partitions for that user with the rights of the tables' owner. Its search path is fixed, so that nobody can
-- place a function or table of another schema before ours.
do $$
begin
    execute format('alter function make_event_partitions(timestamptz, timestamptz)'
                   ' security definer set search_path = %I, pg_temp', current_schema());
end $$;
revoke execute on function make_event_partitions(timestamptz, timestamptz) from public;
