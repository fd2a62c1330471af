-- Tables and functions under the names that the code and the documents use.

-- Since when each MQTT client has received its own canary message without a gap, and the newest receipt.
alter table hearing rename to canary;
alter table canary rename column listener to client_id;
alter table canary rename column heard_at to received_at;
alter index hearing_pkey rename to canary_pkey;

-- How far the keys of a partition are deleted whose month retention drops.
alter table leaving_month rename to partition_drop;
alter index leaving_month_pkey rename to partition_drop_pkey;

alter function plain(numeric) rename to to_double;
