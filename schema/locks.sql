-- Advisory locks that more than one package takes (schema/locks.py lists all of them).

-- take_lanes --
-- The lanes are locked in ascending order, so that two transactions never wait for each other.
select pg_advisory_xact_lock(:lane_lock, lane) from unnest($1::int[]) lane

-- take_lease --
-- The connection holds it until it ends; false while another connection holds it.
select pg_try_advisory_lock($1, hashtext($2))
