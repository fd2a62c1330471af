-- What is announced to Home Assistant about devices (scheduler/home_assistant.py).

-- devices_with_metrics --
-- A page of at most $2 devices after $1, with the units of their profile and the metrics that they have sent: those
-- that have rollups, with one step through the index for each, and those of the newest events, which have none yet.
-- A device that has sent nothing, or was forgotten and has not spoken since, has no metrics.
with page as materialized (
    select device_no, device_id, coalesce(device.name, device_id) as name, coalesce(profile, $3) as profile,
           coalesce(state, 'never_seen') <> 'never_seen' as seen
    from device left join presence using (device_no)
    where device_id > $1 order by device_id limit $2
)
select device_id, page.name, page.profile, profile.metrics as units, case when seen then array(
    with recursive rolled (metric) as (
        (select metric from rollup where rollup.device_no = page.device_no order by metric limit 1)
        union all
        select (select metric from rollup
                where rollup.device_no = page.device_no and metric > rolled.metric order by metric limit 1)
        from rolled where rolled.metric is not null
    ), newest as (
        select event.metrics from event
        where event.device_no = page.device_no and ts > statement_timestamp() - interval '2 days'
        order by ts desc limit :newest_events
    )
    select metric from rolled where metric is not null
    union
    select jsonb_object_keys(newest.metrics) from newest
    order by 1 limit :metrics_max
) else '{}' end as metrics
from page left join profile on profile.name = page.profile
order by device_id
