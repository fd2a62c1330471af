-- Who receives from the broker.

-- The MQTT sessions of our ingestors. A row stands from before its first subscription until its session was
-- emptied and ended: whatever a broker may still hold for us is in a session that is named here.
create table ingest_member (
    client_id text primary key,
    instance text not null,
    number int not null,
    filters text[] not null  -- everything that the session may be subscribed to
);

-- Listeners are named by client id from now on; they note within two seconds that they hear.
delete from hearing;
