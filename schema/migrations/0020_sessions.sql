-- The API holds the sessions of browsers in memory, too, and reads them again when this channel calls.

create function notify_sessions() returns trigger language plpgsql as $$
begin
    perform pg_notify('voltwire_sessions', '');
    return null;
end $$;
create trigger notify_sessions
    after insert or delete on browser_session
    for each statement execute function notify_sessions();
