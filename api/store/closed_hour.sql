-- The end of the hours with rollups.

-- closed_hour --
-- It only grows: read before another query, it is a safe bound for it, and it spares partitions.
select closed from rollup_state
