-- Retention: raw events go by whole months, their rollups stay.

-- The months on their way out: taken off the table of events, or about to be; the scheduler drops each when
-- the keys of its events are gone. A key that is free may be used again, so none is deleted twice: of the
-- first `blocks` of a partition the keys are deleted, and this number moves in the same statement.
create table leaving_month (
    partition text primary key,
    blocks bigint not null default 0
);
