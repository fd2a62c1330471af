-- Event ids that a device used for more than one event.

-- False: the event came without `timestamp` or `ts`, so its copies have other times. Null: it has its own time; a
-- null takes no space, and nearly all events have one. Keys from before this migration count as such.
alter table event_key add column own_time bool;

-- How many duplicates of a device had another own time than the stored event, and when the last one came.
create table reused_id (
    device_no int primary key,
    events bigint not null,
    last_at timestamptz not null
);

-- Writers ask in every transaction which of its devices want receipts; of most fleets none does.
create index device_receipts on device (device_no) where receipts;

-- Without white space: a name holds none.
create or replace function json_metrics_rewritten(metrics jsonb) returns json
language sql immutable parallel safe
return (select ('{' || string_agg(to_json(key) || ':' || json_number(value::numeric), ',') || '}')::json
        from jsonb_each(metrics));

create or replace function json_metrics(metrics jsonb) returns json
language sql stable parallel safe
return case when metrics::text ~ '": -?([0-9]{16}|0[.]0{6})' then json_metrics_rewritten(metrics)
            else replace(metrics::text, ' ', '')::json end;
