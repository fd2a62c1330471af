-- What was measured. docs/decisions/0005-dedupe-table.md says why keys stand apart from events.

-- The idempotency key, across all time and both doors. Text as the device sent it: keys that grow per
-- device keep the index local (hashes took a tenth of the rate at 50 million rows).
create table event_key (
    device_no int not null,
    event_id text collate "C" not null,
    primary key (device_no, event_id)
);

create table event (
    device_no int not null,
    ts timestamptz not null,
    event_id text collate "C" not null,
    metrics jsonb not null,
    tags text[] not null,
    seq bigint,
    received_at timestamptz not null
) partition by range (ts);
create index event_device_ts on event (device_no, ts);
create index event_tags on event using gin (tags);

-- Makes the monthly partitions (UTC) that are missing between two instants and returns how many.
-- LIKE and ATTACH instead of PARTITION OF, which would wait for every open reader and writer.
-- There is no default partition: with one, ATTACH would have to wait for readers, too.
create function make_event_partitions(first timestamptz, last timestamptz) returns int
language plpgsql as $$
declare
    month timestamp;
    partition text;
    made int := 0;
begin
    perform pg_advisory_xact_lock(4243);  -- one maker at a time
    for month in
        select generate_series(date_trunc('month', first at time zone 'UTC'),
                               date_trunc('month', last at time zone 'UTC'), interval '1 month')
    loop
        partition := 'event_' || to_char(month, 'YYYY_MM');
        continue when to_regclass(partition) is not null;
        execute format('create table %I (like event including all)', partition);
        execute format('alter table event attach partition %I for values from (%L) to (%L)', partition,
                       month::text || '+00', (month + interval '1 month')::text || '+00');
        made := made + 1;
    end loop;
    return made;
end $$;

-- Dead letters: what was refused, as it came, with the reason.
create table rejected (
    rejected_id bigint generated always as identity primary key,
    received_at timestamptz not null,
    door text not null,
    device_id text,
    reason text not null,
    detail text not null,
    item int,  -- index in the array, of an array's item
    payload bytea not null
);
create index rejected_received_at on rejected (received_at);
