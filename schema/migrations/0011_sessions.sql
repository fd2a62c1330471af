-- The session that the last birth of a device named; null: none. A will of another session is ignored.
alter table presence add column session text;
