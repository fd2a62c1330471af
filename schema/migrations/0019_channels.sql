-- Where notifications leave for people and programs.

create table channel (
    name text collate "C" primary key,
    url text not null,            -- it holds secrets, and nobody is shown it again
    shown_url text not null,      -- the same without them
    secret text,                  -- of a signed webhook
    silent bool not null default false,  -- it also gets the incidents of the built-in rule `silent`
    created_at timestamptz not null default clock_timestamp(),
    delivered_id bigint not null, -- every notification up to this number of the feed was delivered or given up
    delivered_at timestamptz,     -- the last delivery
    failing_since timestamptz,    -- of the notification that is being retried
    attempts int not null default 0,
    next_attempt_at timestamptz,
    failed_at timestamptz,
    failure text,
    given_up bigint not null default 0  -- notifications
);

-- A test that somebody asked for over HTTP. The scheduler sends it and answers here.
create table channel_test (
    test_id bigint generated always as identity primary key,
    channel text collate "C" not null references channel on delete cascade,
    requested_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    failure text
);
create index channel_test_waiting on channel_test (test_id) where finished_at is null;

create function notify_channels() returns trigger language plpgsql as $$
begin
    perform pg_notify('voltwire_channels', '');
    return null;
end $$;
create trigger notify_channels
    after insert or delete or update of url, secret on channel
    for each statement execute function notify_channels();
create trigger notify_channel_tests
    after insert on channel_test
    for each statement execute function notify_channels();

-- The channels that get a notification: those of its rule, for the first notification of an incident and its end.
alter table outbox add column channels text[];

-- The channels that got an incident of the built-in rule `silent`, which are to get its end.
create function told_channels(device_id text, incident_id bigint) returns text[]
language sql stable
return (
    select channels from outbox
    where kind = 'alert' and outbox.device_id = told_channels.device_id and rule_id = 'silent' and state = 'firing'
      and (body ->> 'incident_id')::bigint = told_channels.incident_id and channels is not null
    order by block desc, n desc limit 1);
