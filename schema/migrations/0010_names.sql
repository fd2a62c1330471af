-- Tables and functions under the names that the code and the documents use.

-- For each MQTT client: since when it has received its own canary without a gap, and the newest receipt.
alter table hearing rename to canary;
alter table canary rename column listener to client_id;
alter table canary rename column heard_at to received_at;
alter index hearing_pkey rename to canary_pkey;

-- For each partition that retention is dropping: up to which block the keys of its events are deleted.
alter table leaving_month rename to partition_drop;
alter index leaving_month_pkey rename to partition_drop_pkey;

alter function plain(numeric) rename to to_double;
