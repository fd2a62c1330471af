-- The times in each half megabyte of events. "The newest events with a tag" reads what the tag and the time have in
-- common; without it, it walked through the index of every device. An entry per 64 pages costs nothing to keep, and
-- holds what a writer has just written as well, until it is summarized.
create index event_ts on event using brin (ts) with (pages_per_range = 64, autosummarize = on);
