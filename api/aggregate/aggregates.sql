-- Aggregates: the pieces that api/aggregate/sql.py assembles into one statement; an example stands there. Every
-- value and sum is numeric, hence exact: it makes no difference which part of a response came from rollups.
-- $1 metric (an array, if there are several), $2 device numbers (null: all), $3 and $4 the half-open range, $5 length
-- of fixed buckets, $6 bounds of calendar buckets, $7 the texts and $8 the numbers of conditions. The planner leaves
-- out the branches that do not apply.

-- closed_and_devices --
-- $1 device ids, $2 registered tags; either may be empty. numbers: the devices that match both.
select closed, floor,
       array(select device_no from device
             where (cardinality($1::text[]) = 0 or device_id = any($1)) and tags @> $2::text[]) as numbers
from rollup_state

-- estimate_events --
-- The planner's estimate of the events in a range, for devices (null: all) and tags (null: any).
explain (format json)
select from event
where ts >= $1 and ts < $2 and ($3::int[] is null or device_no = any($3))
  and ($4::text is null or array_to_tsvector(tags) @@ $4::text::tsquery)

-- estimate_rollups --
explain (format json)
select from rollup
where metric = any($1::text[]) and hour >= $2 and hour < $3 and ($4::int[] is null or device_no = any($4))

-- summary --
-- Every metric of the device $1 from $2 to $3: rollups for the hours from $4 to $5 except the marked ones, events
-- for the rest.
with raw_hour as materialized (
    select distinct hour from rollup_mark where device_no = $1 and hour >= $4 and hour < $5
), part as (
    select metric, count, sum, min, max from rollup
    where device_no = $1 and hour >= $4 and hour < $5 and hour not in (select hour from raw_hour)
    union all
    select metric, 1, value, value, value
    from (
        select metrics from event where device_no = $1 and ts >= $2 and ts < $4
        union all
        select metrics from event where device_no = $1 and ts >= $5 and ts < $3
        union all
        select metrics from raw_hour cross join lateral (
            select metrics from event
            where device_no = $1 and ts >= hour and ts < hour + interval '1 hour' and ts >= $4 and ts < $5
            offset 0) event
    ) event, lateral (select key as metric, value::numeric as value from jsonb_each(metrics)) reading
)
select (select floor from rollup_state) as floor, metric, sum(count) as count, json_number(min(min)) as min,
       json_number(max(max)) as max, json_number(sum(sum) / sum(count)) as avg
from (select null) one_row left join part on true
group by metric
order by metric

-- bucket --
-- The start of the bucket that an instant belongs to.
case when $6::timestamptz[] is null then date_bin($5::interval, {at}, 'epoch')
     else $6[width_bucket({at}, $6)] end

-- from_events --
-- $9: a tsquery on the tags of an event, null: any tags.
bucket as (
    select at, {keys}, count(*) as count{stats}
    from (
        select {bucket} as at, device_no, event_id, ts, tags{each_metric}, (metrics -> {metric})::numeric as value
        from event {metrics}
        where ts >= $3 and ts < $4 and metrics ? {metric}{where}
          and ($2::int[] is null or device_no = any($2))
          and ($9::text is null or array_to_tsvector(tags) @@ $9::text::tsquery)
        {in_order}
    ) reading {joins}
    group by {positions}
)

-- in_order --
-- The index gives the readings of a device nearly in this order. Many small groups then cost half of what they cost
-- in a hash table; and the planner does not compute a value again for each statistic.
order by 1

-- from_rollups --
-- Rollups for the closed whole hours from $9 to $10, events for the rest of the range.
{raw_hours} bucket as (
    select {bucket} as at, {keys}, sum(count)::bigint as count{stats}
    from (
        select device_no{of_metric}, hour as at, count{rollup_columns} {rollups}
        union all
        select device_no{of_metric}, ts, 1{reading_columns} from ({events}) reading
    ) part {joins}
    group by {positions}
)

-- from_hours --
-- The same if each rollup is a bucket: only events need to be summed.
{raw_hours} bucket as (
    select hour as at, {keys}, count{hour_stats} {rollups}
    union all
    select {bucket}, {keys}, count(*){stats} from ({events}) reading {joins} group by {positions}
)

-- rollups --
from rollup {hour_joins}
where {metric_is} and hour >= $9 and hour < $10 and ($2::int[] is null or device_no = any($2))
  {except_raw_hours}

-- events_beside_rollups --
select device_no, event_id, ts{each_metric}, (metrics -> {metric})::numeric as value
from event {metrics}
where ts >= $3 and ts < $9 and metrics ? {metric} and ($2::int[] is null or device_no = any($2))
union all
select device_no, event_id, ts{each_metric}, (metrics -> {metric})::numeric
from event {metrics}
where ts >= $10 and ts < $4 and metrics ? {metric} and ($2::int[] is null or device_no = any($2))
{raw_hour_events}

-- raw_hours --
-- The hours among them that must be read from events: the marked ones, and those in $11, which the start of a
-- bucket splits (a closed hour without a rollup has no events). They may lie in any partition of the range, and
-- planning for that takes longer than a small query: so these three pieces are included only if needed.
raw_hour as materialized (
    select device_no, hour from rollup_mark
    where hour >= $9 and hour < $10 and ($2::int[] is null or device_no = any($2))
    union
    select device_no, hour from rollup
    where {metric_is} and hour = any($11::timestamptz[]) and ($2::int[] is null or device_no = any($2))
),

-- except_raw_hours --
and not exists (select from raw_hour
                where raw_hour.device_no = rollup.device_no and raw_hour.hour = rollup.hour)

-- raw_hour_events --
-- `offset 0` makes the planner read hour by hour, which is the best plan.
union all
select device_no, event_id, ts{of_metric}, value
from raw_hour cross join lateral (
    select event_id, ts{each_metric}, (metrics -> {metric})::numeric as value from event {metrics}
    where device_no = raw_hour.device_no and ts >= hour and ts < hour + interval '1 hour'
      and ts >= $9 and ts < $10 and metrics ? {metric}
    offset 0) event

-- marked --
(select exists (select from rollup_mark
                where hour >= $9 and hour < $10 and ($2::int[] is null or device_no = any($2))))

-- each_tag --
cross join lateral (select distinct {tag} from unnest({tags}) {tag}) {tag}

-- each_tag_with_prefix --
cross join lateral (
    select distinct {tag} from unnest({tags}) {tag} where starts_with({tag}, ($7::text[])[{place}])) {tag}

-- unfilled --
select * from {found} found

-- fill --
-- Every bucket of the range for every group. A bucket without events has access to the nearest buckets with
-- events, before and after it.
select at, {names}, coalesce(count, 0) as count{stats}
from (
    select *, count(count) over (partition by {names} order by at) as before,
           count(count) over (partition by {names} order by at desc) as after
    from (
        select at, {names}, max(count) as count{columns}
        from (
            select at, {names}, count{values} from {found} found
            union all
            select at, {names}, null{nulls} from ({groups}) groups, (
                select generate_series(date_bin($5::interval, $3, 'epoch'), $4 - interval '1 us', $5) as at
                where $6::timestamptz[] is null
                union all
                select unnest(trim_array($6, 1)) where $6::timestamptz[] is not null
            ) period
        ) bucket_or_empty
        group by at, {names}
    ) grid
) filled
window before as (partition by {names}, before order by at), after as (partition by {names}, after order by at desc)

-- having --
(select * from bucket where {conditions})

-- groups --
select distinct {names} from {found} found limit {groups_max}

-- one_group --
select '' as group_key

-- group_per_metric --
select metric collate "C" as metric from unnest($1::text[]) metric

-- response --
-- `asked` is never read: it gives types to the parameters that some statements do not use.
with asked as (
    select $7::text[], $8::numeric[]
), {buckets}
{shown}

-- columns --
-- Each column as one text, from which api/aggregate/response.py writes the response. `at` is in binary: microseconds
-- since 2000. Most statistics are absent where the count is 1. `marked`: there are marked hours. If their pieces were
-- left out, the row must not be used.
select count(*) as rows, (select floor from rollup_state) as floor, {marked} as marked,
       string_agg(timestamptz_send(at), '') as at, string_agg(count::text, ',') as count{columns}
from (
    select * from ({rows}) shown_bucket
    order by {order}
    limit {rows_max} + 1
) line

-- number_of_groups --
select count(*) as groups from (select distinct {names} from {found} found) groups
