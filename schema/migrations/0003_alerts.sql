-- Rules, what they found, and the feed that tells it.

create sequence rule_no;
create table rule (
    rule_id text collate "C" primary key default 'r' || nextval('rule_no'),
    device_id text collate "C",
    tag text,
    metric text not null,
    op text not null check (op in ('>', '>=', '<', '<=', '==', '!=')),
    threshold double precision not null,
    name text,
    severity text not null check (severity in ('warning', 'info', 'critical')),
    for_s double precision not null check (for_s >= 0),
    clear_threshold double precision,
    cooldown_s double precision not null check (cooldown_s >= 0),
    notify text not null check (notify in ('every', 'change')),
    enabled bool not null,
    created_at timestamptz not null default clock_timestamp(),
    in_force_from timestamptz not null default clock_timestamp()  -- events received before were not evaluated
);

-- Times are event times, but for rule 'silent', which has only times of receipt.
create sequence incident_no;
create table incident (
    incident_id bigint not null default nextval('incident_no'),
    device_no int not null,
    rule_id text collate "C" not null,
    severity text not null,
    opened_at timestamptz not null,
    opened_by text,  -- event_id
    opened_value double precision,
    acknowledged_at timestamptz,
    resolved_at timestamptz,
    resolved_by text,
    primary key (device_no, incident_id)
);
-- The last defence against two open incidents of one rule and device.
create unique index incident_open on incident (device_no, rule_id) where resolved_at is null;
create index incident_id on incident (incident_id);

-- What a rule remembers of a device. Only transitions and notifications under a cooldown write here;
-- what was decided between them is asked of the events.
create table alert_state (
    device_no int not null,
    rule_id text collate "C" not null,
    pending_since timestamptz,  -- first event of an unbroken violating run that waits for for_s
    incident_id bigint,         -- not null: firing
    notified_at timestamptz,    -- event time of the last notification
    decided_at timestamptz,     -- newest event that changed this row
    primary key (device_no, rule_id)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The outbox is filled without a lock under a block number; the last message of the transaction numbers
-- the block in the feed under lock 4242. Readers follow feed.last_id: complete, growing, without repeats.
create sequence outbox_block;
create sequence feed_no;
create table outbox (
    block bigint not null,
    n int not null,
    kind text not null check (kind in ('alert', 'presence')),
    device_id text not null,
    rule_id text,
    state text not null,
    late bool not null default false,
    body json not null,  -- json, not jsonb: the order of the fields is part of the contract
    primary key (block, n)
);
create index outbox_latest on outbox (device_id, kind, rule_id, block, n);
create table feed (
    last_id bigint primary key,
    first_id bigint not null,
    block bigint not null,
    committed_at timestamptz not null default clock_timestamp()
);

-- How far a reader that must not repeat itself after a restart has come.
create table feed_position (
    reader text primary key,
    last_id bigint not null
);
