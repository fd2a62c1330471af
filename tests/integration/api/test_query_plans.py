"""The hot queries find what they need by an index, in the partitions that can hold it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from api.aggregate.buckets import buckets, offset_changes
from api.aggregate.completeness import queries as of_completeness
from api.aggregate.completeness import where_to_read
from api.aggregate.query import AggregateQuery, Fill, GroupBy
from api.aggregate.reader import arguments
from api.aggregate.sql import Source, statement
from api.export.store import EXPORT_SESSION
from api.export.store import queries as of_exports
from api.latest.store import LATEST_OF_MANY, latest_values
from api.store.dead_letters import queries as of_dead_letters
from api.store.devices import LIST_DEVICES, NEWEST_EVENTS
from api.store.events import (
    FLEET_WINDOWS,
    LAST_KEY,
    PLAIN_METRICS,
    SEARCH_EVENTS,
    device_events,
    lookback_windows,
    newest_events,
    queries,
)
from api.store.registry import queries as of_registry
from api.store.tags import tags_query
from scheduler.rollups import roll
from schema.database import LOOKUP_SESSION, Connection, fetch_row
from schema.instants import EARLIEST, LATEST
from tests.support.oracle.plans import DEVICES, EVENTS_OF_A_DEVICE, generate, plan_of

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
WEEK = (NOW - timedelta(days=7), NOW)
MOST_PARTITIONS_OF_A_WEEK = 2
MONTHS_AHEAD = 2  # Their partitions exist already.
BIGINT_MAX = 2**63 - 1
PARTITIONS_LOCKED = """
    select relation from pg_locks join pg_inherits on inhrelid = relation
    where pid = pg_backend_pid() and inhparent = 'event'::regclass
"""


@pytest.fixture
async def filled(dsn: str) -> AsyncIterator[Connection]:
    """A device has 1,500 events, the fleet 30,000."""
    connection = await asyncpg.connect(dsn, server_settings={"timezone": "UTC"})
    await generate(connection)
    yield connection
    connection.terminate()


async def test_lists_and_points_of_a_device_read_its_rows_of_the_range(filled: Connection) -> None:
    key = (LATEST, LAST_KEY)
    events = device_events(PLAIN_METRICS)
    newest = await plan_of(filled, events, "d5", LATEST, *key, 101, EARLIEST)
    week = await plan_of(filled, events, "d5", WEEK[1], *key, 101, WEEK[0])
    points = await plan_of(filled, queries.device_metrics, 5, "d5", *WEEK, 50_000)
    for plan in (newest, week, points):
        assert plan.read_whole <= {"device"}, "which has one page here"
        assert plan.rows_most <= 200
        assert any(name.endswith("_device_no_ts_idx") for name in plan.indexes)
    for plan in (week, points):
        assert len(plan.partitions) <= MOST_PARTITIONS_OF_A_WEEK


async def test_kept_plans_of_a_device_lock_few_partitions(filled: Connection, dsn: str) -> None:
    closed = await filled.fetchval("select closed from rollup_state")
    keeping = await asyncpg.connect(dsn, server_settings={"timezone": "UTC", **LOOKUP_SESSION})
    for sql, values in (
        (latest_values(closed, False, False), ("d5",)),
        (newest_events(WEEK[0]), ("d5", LATEST, LATEST, LAST_KEY, 101)),
    ):
        await keeping.fetch(sql, *values)
        async with keeping.transaction():
            await keeping.fetch(sql, *values)
            locked = await keeping.fetch(PARTITIONS_LOCKED)
        assert len(locked) <= MOST_PARTITIONS_OF_A_WEEK + MONTHS_AHEAD, sql
        kept = await keeping.fetchval(
            "select generic_plans from pg_prepared_statements where statement = $1", sql
        )
        assert kept == 2
    keeping.terminate()


async def test_a_rare_tag_or_beginning_is_found_by_the_index_of_tags(filled: Connection) -> None:
    key = (LATEST, LAST_KEY, 0)
    for tags, most in (("'room:7'", 200), ("'room:7':*", 3000), ("'nothing':*", DEVICES)):
        plan = await plan_of(filled, SEARCH_EVENTS, tags, EARLIEST, LATEST, *key, 101)
        assert any("tsvector" in name for name in plan.indexes), tags
        assert plan.rows_most <= most, tags
        assert not plan.read_whole - {"device"}, tags


async def test_the_view_events_reads_the_events_of_a_device_and_range_by_its_index(
    filled: Connection,
) -> None:
    day = (NOW - timedelta(days=1), NOW)
    asked = "select * from events where device_id = any($1) and ts >= $2 and ts < $3"
    for devices in (["d5"], ["d5", "d6", "d7"]):
        plan = await plan_of(filled, asked, devices, *day)
        assert len(plan.partitions) <= MOST_PARTITIONS_OF_A_WEEK
        assert any(name.endswith("_device_no_ts_idx") for name in plan.indexes)
        assert not plan.read_whole - {"device"}
        assert plan.rows_most <= 20 * len(devices)
    values = asked.replace("events", "readings")
    plan = await plan_of(filled, values, ["d5"], *day)
    assert not plan.read_whole - {"device"}
    assert plan.rows_most <= 40


async def test_has_tag_finds_a_rare_tag_by_the_index_of_tags(filled: Connection) -> None:
    asked = "select * from events where has_tag(tags, $1) and ts >= $2 and ts < $3"
    plan = await plan_of(filled, asked, "room:7", EARLIEST, LATEST)
    assert any("tsvector" in name for name in plan.indexes)
    assert not plan.read_whole - {"device"}
    assert plan.rows_most <= 200
    plan = await plan_of(filled, asked, "room:7", *WEEK)
    assert len(plan.partitions) <= MOST_PARTITIONS_OF_A_WEEK


async def test_a_tag_of_every_event_is_found_without_reading_them_all(filled: Connection) -> None:
    start, end = list(lookback_windows(EARLIEST, LATEST, NOW, FLEET_WINDOWS))[5]
    key = (LATEST, LAST_KEY, 0)
    plan = await plan_of(filled, SEARCH_EVENTS, "'fleet'", start, end, *key, 101)
    assert len(plan.partitions) <= MOST_PARTITIONS_OF_A_WEEK
    assert plan.rows_most <= 1000


async def test_a_slice_of_an_export_by_a_rare_tag_reads_the_index_of_tags(
    filled: Connection,
) -> None:
    for name, value in EXPORT_SESSION.items():
        await filled.execute(f"set {name} = '{value}'")
    start = NOW.replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=40)
    start = start.replace(day=1)
    month = (start, (start + timedelta(days=31)).replace(day=1), 0, start, "")
    for tags, rows_most in ((tags_query(["room:7"]), 100), (tags_query(["fleet"]), 300)):
        parameters = (*month, 100, 2_000_000, None, tags, None, "csv")
        plan = await plan_of(filled, of_exports.export_slice, *parameters)
        assert plan.read_whole <= {"rollup_state"}
        assert plan.rows_most <= rows_most, tags


async def test_latest_values_come_from_the_last_rollups_and_the_open_hours(
    filled: Connection,
) -> None:
    week_ago = (NOW - timedelta(days=7)).replace(minute=0, second=0, microsecond=0)
    await filled.execute("update rollup_state set closing = $1, closed = $1", week_ago)
    await roll(filled)
    await filled.execute("vacuum analyze")
    closed = await filled.fetchval("select closed from rollup_state")
    plan = await plan_of(filled, latest_values(closed, False, False), "d5")
    assert plan.read_whole <= {"device", "rollup_state"}, "which have one page here"
    assert plan.rows_most <= 20
    assert "rollup_pkey" in plan.indexes
    devices = [f"d{n}" for n in range(1, DEVICES + 1)]
    plan = await plan_of(filled, LATEST_OF_MANY, devices, closed, None)
    assert not plan.read_whole - {"device"}
    assert plan.rows_most <= 20 * DEVICES
    assert len(plan.partitions) <= MOST_PARTITIONS_OF_A_WEEK + MONTHS_AHEAD
    assert "rollup_pkey" in plan.indexes


async def test_whole_hours_of_a_device_come_from_the_index_of_rollups_alone(
    filled: Connection,
) -> None:
    start, end = _last_two_months()
    await filled.execute("update rollup_state set closing = $1, closed = $1", start)
    await roll(filled, end)
    await filled.execute("vacuum analyze rollup")
    query = _hours_of(("d5",), start, end)
    sql = statement(query, Source.ROLLUPS, 50_000)
    plan = await plan_of(filled, sql, *arguments(query, [5]), start, end)
    assert "rollup_pkey" in plan.indexes
    assert {node["Node Type"] for node in plan.nodes if "Index Name" in node} == {"Index Only Scan"}
    assert not plan.read_whole - {"rollup_state", "rollup_mark"}
    assert plan.rows_most <= (end - start) / HOUR
    rest = statement(query, Source.ROLLUPS_AND_EVENTS, 50_000)
    plan = await plan_of(filled, rest, *arguments(query, [5]), start, end, [start + 7 * HOUR])
    assert not plan.read_whole - {"rollup_state", "rollup_mark", "device"}


async def test_minutes_of_a_device_read_its_events_of_the_range(filled: Connection) -> None:
    query = _hours_of(("d5",), *WEEK)
    for source in (Source.EVENTS, Source.EVENTS_IN_ORDER):
        sql = statement(query, source, 50_000)
        plan = await plan_of(filled, sql, *arguments(query, [5]), None)
        assert len(plan.partitions) <= MOST_PARTITIONS_OF_A_WEEK
        assert not plan.read_whole - {"rollup_state"}
        assert plan.rows_most <= 200
    groups = [node["Strategy"] for node in plan.nodes if "Group Key" in node]
    assert groups == ["Sorted"]


async def test_more_filled_rows_than_an_answer_has_are_not_made_to_be_counted(
    filled: Connection,
) -> None:
    zone, start, end = ZoneInfo("UTC"), NOW - 3 * HOUR, NOW
    seconds = buckets("1s", zone, start, end)
    offsets = offset_changes(zone, start, end)
    query = AggregateQuery(
        ("temp",), (), None, start, end, seconds, offsets, (GroupBy.DEVICE,), Fill.PREVIOUS
    )
    number = seconds.number(start, end)
    parameters = (*arguments(query, None), None)
    for rows_max in (3 * number, DEVICES * number):
        row = await fetch_row(filled, statement(query, Source.EVENTS, rows_max), *parameters)
        assert row["rows"] == min(DEVICES * number, rows_max + 1)
    plan = await plan_of(filled, statement(query, Source.EVENTS, 3 * number), *parameters)
    assert plan.rows_most <= 5 * number


def _last_two_months() -> tuple[datetime, datetime]:
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=60), midnight


def _hours_of(devices: tuple[str, ...], start: datetime, end: datetime) -> AggregateQuery:
    zone = ZoneInfo("UTC")
    offsets = offset_changes(zone, start, end)
    return AggregateQuery(
        ("temp",), devices, None, start, end, buckets("1h", zone, start, end), offsets
    )


async def test_pages_of_devices_follow_the_index_of_names(filled: Connection) -> None:
    await filled.execute(
        "insert into device (device_id) select 'x' || n from generate_series(1, 5000) n;"
        "insert into presence (device_no) select device_no from device on conflict do nothing"
    )
    await filled.execute("vacuum analyze device, presence")
    plan = await plan_of(filled, LIST_DEVICES, "battery", "d5", None, None, None, 101, NOW)
    assert "device_device_id_key" in plan.indexes
    assert plan.rows_most <= 101
    plan = await plan_of(filled, of_registry.update_expected_intervals, [5], None, "battery")
    assert not plan.read_whole - {"profile"}


async def test_completeness_and_gaps_read_few_events_of_a_long_history(
    filled: Connection,
) -> None:
    """Half of the events of d5 are lost; only its hours are read, and a page of gaps stops at its end."""
    await filled.execute(
        "update event set seq = 3002 - 2 * substr(event_id, 2)::int where device_no = 5"
    )
    await roll(filled)
    await filled.execute("vacuum analyze event, seq_rollup")
    closed = await filled.fetchval("select closed from rollup_state")
    day = closed.replace(hour=0) - timedelta(days=1)
    where = await where_to_read(filled, 5, day, day + timedelta(days=1))
    plan = await plan_of(filled, of_completeness.completeness, *where)
    assert not plan.read_whole - {"rollup_state"}
    assert plan.rows_most <= 50
    where = await where_to_read(filled, 5, EARLIEST, LATEST)
    plan = await plan_of(filled, of_completeness.gaps, *where, LATEST, 0, 11)
    assert not plan.read_whole - {"rollup_state"}
    assert plan.rows_most <= EVENTS_OF_A_DEVICE, "the rollups of its hours, and a few events"


async def test_a_page_of_devices_reads_few_events_of_each(filled: Connection) -> None:
    plan = await plan_of(
        filled, LIST_DEVICES, "battery", "", None, None, None, 101, NOW - timedelta(days=80)
    )
    assert plan.rows_most <= DEVICES * NEWEST_EVENTS
    assert not plan.read_whole & {name for name in plan.read_whole if name.startswith("event")}


async def test_pages_of_dead_letters_follow_an_index(filled: Connection) -> None:
    for device_id, reason, index in (
        (None, None, "rejected_pkey"),
        ("d5", None, "rejected_device"),
        (None, "reason 5", "rejected_reason"),
    ):
        filters = (device_id, reason, None, None, None, None)
        plan = await plan_of(filled, of_dead_letters.list_dead_letters, BIGINT_MAX, *filters, 31)
        assert index in plan.indexes
        assert plan.rows_most <= 31
