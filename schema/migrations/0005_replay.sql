-- Dead letters, listed and sent through the pipeline again.

-- When every event in it was stored, or found to be stored before. Null: not yet.
alter table rejected add column replayed_at timestamptz;

-- The two usual questions, newest or oldest first. They stay quick when millions of other letters lie between.
create index rejected_device on rejected (device_id, rejected_id);
create index rejected_reason on rejected (reason, rejected_id);
