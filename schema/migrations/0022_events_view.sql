-- SQL users read whole events, and find them by tags.

-- One row per event. Conditions on device_id and ts use the index of the device in the partitions of the range.
create view events as
select device_id, event_id, ts, metrics, event.tags, seq, received_at
from event join device using (device_no);

-- Whether `tag` is one of the tags, by the index of tags. It is written out where it is called, so that the
-- planner sees the expression of the index (0008_search.sql).
create function has_tag(tags text[], tag text) returns bool
language sql immutable parallel safe
return array_to_tsvector(tags) @@ (
    '''' || replace(replace(tag, '\', '\\'), '''', '''''') || '''')::tsquery;
