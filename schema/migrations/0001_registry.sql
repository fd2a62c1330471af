-- Who sends, and what their values may be.

-- One row. A change of rules or of the registry moves its number in the same transaction, and every
-- writing transaction reads both: so a change is in force in every process once it is committed.
create table config (
    one bool primary key default true check (one),
    rules_version bigint not null default 1,
    registry_version bigint not null default 1
);
insert into config default values;

-- metrics: {"soc_percent": {"unit": "%", "min": 0, "max": 100}, …}; a metric not named here is free.
create table profile (
    name text collate "C" primary key,
    metrics jsonb not null default '{}',
    interval_s double precision check (interval_s > 0),
    receipts bool not null default false
);
insert into profile (name, metrics) values
    ('battery', '{"soc_percent": {"unit": "%", "min": 0, "max": 100},
                  "voltage_v": {"unit": "V", "min": 200, "max": 500},
                  "current_a": {"unit": "A", "min": -1000, "max": 1000},
                  "temp_c": {"unit": "Cel", "min": -60, "max": 150}}'),
    ('open', '{}');

-- Rows of other tables name a device by its number: 4 bytes in every key. The number never changes hands.
create table device (
    device_no int generated always as identity primary key,
    device_id text collate "C" not null unique,
    profile text collate "C" references profile (name),  -- null: DEFAULT_PROFILE
    name text,
    tags text[] not null default '{}',
    interval_s double precision check (interval_s > 0),
    receipts bool not null default false,  -- announced in its birth
    registered bool not null default false,
    created_at timestamptz not null default clock_timestamp()
);

-- RFC 3339 in UTC, with a fraction only where there is one.
create function rfc3339(instant timestamptz) returns text
language sql immutable parallel safe strict
return to_char(instant at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS')
    || case when date_trunc('second', instant) = instant then ''
            else rtrim(to_char(instant at time zone 'UTC', '.US'), '0') end
    || 'Z';

-- A number as JSON shows it: a double; null beyond its range.
create function plain(value numeric) returns double precision
language sql immutable parallel safe strict
return case when abs(value) <= 1.7976931348623157e308 then value::double precision end;
