-- Who is there. Times are times of receipt by this server's clock.

-- Narrow and half empty, so that the frequent update of last_seen stays on its page (HOT): no index may
-- hold last_seen. check_at is a lower bound for the next look, moved by the sweep; a message never has to.
create table presence (
    device_no int primary key,
    state text not null default 'never_seen'
        check (state in ('never_seen', 'online', 'asleep', 'late', 'offline')),
    since timestamptz not null default clock_timestamp(),
    reason text not null default 'registered',
    last_seen timestamptz,
    sleep_s double precision,    -- the announced wake_in_s, while asleep
    will_at timestamptz,         -- a last will that nothing newer has answered
    interval_s double precision, -- the expected interval; null: unknown
    check_at timestamptz not null default 'infinity'
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index presence_check_at on presence (check_at);

-- Since when each listener hears its own canary through the broker without a gap.
create table hearing (
    listener text primary key,
    since timestamptz not null,
    heard_at timestamptz not null
);
