-- Which numbers of `seq` are missing. A step is the difference to the previous seq of the device in the order
-- (ts, seq): 1 is the next event, 0 a repetition; 2 up to seq_step_max is a gap, and anything else begins a new run.

-- where_to_read --
-- Before a query about the device $1 from $2 to $3. The last event with seq before $2, if there is one, is in the hour
-- `oldest` or later; without one, no event with seq is older. Null: there are none in closed hours. `marked`: the
-- hours from then on whose rollups lack events.
with bounds as (
    select closed, coalesce(
        (select hour from seq_rollup
         where device_no = $1 and hour < least(date_trunc('hour', $2::timestamptz, 'UTC'), closed)
         order by hour desc limit 1),
        least((select hour from seq_rollup where device_no = $1 order by hour limit 1),
              (select min(hour) from rollup_mark where device_no = $1))) as oldest
    from rollup_state
)
select closed, oldest,
       array(select distinct hour from rollup_mark
             where device_no = $1 and hour >= oldest and hour < least(closed, $3::timestamptz)) as marked
from bounds

-- completeness --
-- Received and missing events of the device $1 from $2 to $3. The rollups from $4 to $5 are read, except the hours
-- $6, and the events of those hours and from $5 on. $4 is also the oldest event that is read.
with part as (
    select hour as at, first, last, received, missing from seq_rollup
    where device_no = $1 and hour >= $4 and hour < $5 and hour < $3 and hour <> all($6::timestamptz[])
    union all
    select ts, seq, seq, 1, 0 from event where device_no = $1 and ts >= $5 and ts < $3 and seq is not null
    union all
    select ts, seq, seq, 1, 0
    from unnest($6::timestamptz[]) as raw (hour)
    cross join lateral (
        select ts, seq from event
        where device_no = $1 and ts >= raw.hour and ts < raw.hour + interval '1 hour' and ts >= $4 and ts < $3
          and seq is not null
        offset 0) event
), linked as (
    select at, received, missing, first - lag(last) over (order by at, first) as step from part
)
select (select floor from rollup_state) as floor,
       coalesce(sum(received - case when step = 0 then 1 else 0 end), 0)::bigint as received,
       coalesce(sum(missing + case when step between 2 and :seq_step_max then step - 1 else 0 end), 0)::bigint as missing
from linked
where at >= $2

-- gaps --
-- The gaps of the device $1 whose later end is from $2 to $3 and before the key ($7, $8), the newest first. $4 to $6
-- are as in `completeness`.
-- 1. linked   the step from each hour with a rollup to the next
-- 2. piece    what must be read as events: hours with a gap in them or before them, the hours $6, and all from $5 on
-- 3. event    the events of a piece, after the last one before it
with linked as (
    select hour, missing, first - lag(last) over hours as step, lag(hour) over hours as previous
    from seq_rollup
    where device_no = $1 and hour >= $4 and hour < $5 and hour < $3 and hour <> all($6::timestamptz[])
    window hours as (order by hour)
)
select numbered.ts, numbered.seq, (select row_to_json(shown) from (
    select rfc3339(previous_ts) as from_time, rfc3339(numbered.ts) as to_time, numbered.seq - step as after_seq,
           numbered.seq as before_seq, step - 1 as missing) shown)::text as body
from (
    select hour as start, hour + interval '1 hour' as stop from linked
    where hour >= $2 and (missing > 0 or step between 2 and :seq_step_max or exists (
        select from unnest($6::timestamptz[]) raw where raw > coalesce(previous, '-infinity') and raw < hour))
    union all
    select raw, raw + interval '1 hour' from unnest($6::timestamptz[]) raw where raw + interval '1 hour' > $2
    union all
    select greatest($5, $2), 'infinity' where $5 < $3
    order by start desc
) piece
cross join lateral (
    select ts, seq, lag(ts) over in_order as previous_ts, seq - lag(seq) over in_order as step
    from (
        (select ts, seq from event
         where device_no = $1 and ts < piece.start and ts >= $4 and ts < $3 and seq is not null
         order by ts desc, seq desc limit 1)
        union all
        select ts, seq from event
        where device_no = $1 and ts >= piece.start and ts < piece.stop and ts >= $4 and ts < $3 and seq is not null
    ) event
    window in_order as (order by ts, seq)
) numbered
where step between 2 and :seq_step_max and numbered.ts >= $2 and (numbered.ts, numbered.seq) < ($7, $8)
order by start desc, numbered.ts desc, numbered.seq desc
limit $9

-- floor_of_raw_events --
select floor from rollup_state
