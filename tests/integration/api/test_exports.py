"""ExportStore against the view `readings`: every event once, in every format, while others write."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest

from api.export import store as export_store
from api.export.formats import CSV_HEADER, encoding_of
from api.export.store import (
    CONNECTIONS_MAX,
    EXPORT_SESSION,
    ExportSelection,
    ExportStore,
    FileFormat,
    queries,
)
from api.store.tags import tags_query
from runtime.errors import Overloaded, RawEventsDropped
from schema.database import Connection, open_pool
from schema.instants import rfc3339

pytestmark = pytest.mark.slow  # Nearly every test has a database of its own.

NOW = datetime(2026, 10, 25, 23, 30, tzinfo=UTC)
AWKWARD = ["plain", "a,b", '"', '""', "it's", " leading", "trailing ", "", "line\nbreak", "\r", "tab\t",
           "\\", "\\n", "{a}", "NULL", "null", "=1+1", "ünï 📈", "\u2028", "\x01", "\x7f"]  # fmt: skip
NUMBERS = [0, 1, -1, 0.1, 1e-300, 5e-324, 1.7976931348623157e308, -1e22, 2**53, 1e15, 123456.789e-7]


@pytest.fixture
async def exports(dsn: str) -> AsyncIterator[ExportStore]:
    async with await open_pool(dsn, "export", EXPORT_SESSION, size_max=CONNECTIONS_MAX) as pool:
        yield ExportStore(pool)


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_store, "SLICE_EVENTS_MAX", 7)


async def store(db: Connection, *events: dict[str, Any]) -> None:
    """Straight into the table, as the writer does."""
    rows = [
        (each["device"], each["ts"], each["id"], json.dumps(each.get("metrics", {"temp": 20})),
         each.get("tags", []), each.get("seq"), each.get("received_at", each["ts"]))
        for each in events
    ]  # fmt: skip
    devices = sorted({(each["device"],) for each in events})
    await db.executemany(
        "insert into device (device_id) values ($1) on conflict do nothing", devices
    )
    await db.executemany(
        "insert into event select device_no, $2, $3, $4::jsonb, $5, $6, $7 from device where device_id = $1",
        rows,
    )


def made_up(random: Random, count: int, prefix: str = "e") -> list[dict[str, Any]]:
    """Events of five devices around the ends of months, with texts that are hard to quote."""
    return [
        {
            "device": f"d{random.randrange(5)}",
            "ts": NOW + timedelta(days=random.choice([-40, -1, 0, 1]), seconds=random.randrange(9)),
            "id": f"{prefix}{n}" + random.choice(["", ',"', "'", "é"]),
            "metrics": {
                f"m{k}": random.choice([*NUMBERS, random.gauss()])
                for k in random.sample(range(9), random.randint(1, 4))
            },
            "tags": [text for text in random.sample(AWKWARD, random.randrange(5)) if text],
            "seq": random.choice([None, 0, 2**53 - 1]),
            "received_at": NOW + timedelta(microseconds=random.randrange(10**6)),
        }
        for n in range(count)
    ]  # fmt: skip


async def exported(exports: ExportStore, form: FileFormat, **selection: Any) -> bytes:
    encoding = await encoding_of(form)
    slices = await exports.begin(ExportSelection(**selection), form)
    return b"".join([piece async for piece in encoding.encode(slices)])


async def values(exports: ExportStore, form: FileFormat, **selection: Any) -> list[tuple[Any, ...]]:
    """The file as a reader parses it, a row per value."""
    body = await exported(exports, form, **selection)
    if form is FileFormat.PARQUET:
        return [
            (*[row[name] for name in ("device_id", "event_id", "timestamp", "metric", "value")],
             tuple(row["tags"]), row["seq"], row["received_at"])
            for row in pq.read_table(io.BytesIO(body)).to_pylist()
        ]  # fmt: skip
    if form is FileFormat.CSV:
        assert body.startswith(CSV_HEADER)
        return [
            (row["device_id"], row["event_id"], datetime.fromisoformat(row["timestamp"]), row["metric"],
             float(row["value"]), tuple(json.loads(row["tags"])), int(row["seq"]) if row["seq"] else None,
             datetime.fromisoformat(row["received_at"]))
            for row in csv.DictReader(io.StringIO(body.decode(), newline=""), strict=True)
        ]  # fmt: skip
    return [
        (event["device_id"], event["event_id"], datetime.fromisoformat(event["timestamp"]), metric,
         float(value), tuple(event["tags"]), event["seq"], datetime.fromisoformat(event["received_at"]))
        for event in map(json.loads, body.splitlines())
        for metric, value in event["metrics"].items()
    ]  # fmt: skip


async def test_times_in_csv_always_have_six_digits_of_a_fraction(
    exports: ExportStore, db: Connection
) -> None:
    await store(db, *made_up(Random(3), 50))
    body = await exported(exports, FileFormat.CSV)
    for row in csv.DictReader(io.StringIO(body.decode(), newline="")):
        for name in ("timestamp", "received_at"):
            assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}[.][0-9]{6}Z", row[name])


async def readings(db: Connection, where: str = "true") -> "Counter[tuple[Any, ...]]":
    rows = await db.fetch(
        "select device_id, event_id, ts, metric, value, tags, seq, received_at"
        f" from readings where {where}"
    )
    return Counter((*row[:5], tuple(row["tags"]), *row[6:]) for row in rows)


@pytest.mark.parametrize("form", FileFormat)
async def test_an_export_holds_every_value_of_the_view_once(
    exports: ExportStore, db: Connection, form: FileFormat, small_slices: None
) -> None:
    await store(db, *made_up(Random(form), 300))
    found = await values(exports, form)
    assert Counter(found) == await readings(db)
    assert len(found) > 300


async def test_the_lines_of_ndjson_are_the_events_of_the_api(
    exports: ExportStore, db: Connection
) -> None:
    await store(db, *made_up(Random(1), 100))
    shown = await db.fetch(
        "select row_to_json(shown)::text from (select event_id, device_id, rfc3339(ts) as timestamp,"
        " json_metrics(metrics) as metrics, event.tags, seq, rfc3339(received_at) as received_at"
        " from event join device using (device_no)) shown"
    )
    lines = (await exported(exports, FileFormat.NDJSON)).decode().removesuffix("\n").split("\n")
    assert sorted(lines) == sorted(row[0] for row in shown)


async def test_events_come_day_by_day_then_by_device_and_time(
    exports: ExportStore, db: Connection, small_slices: None
) -> None:
    await store(db, *made_up(Random(2), 100))
    order = await db.fetch(
        "select device_id, event_id from event join device using (device_no)"
        " order by date_trunc('day', ts, 'UTC'), device_no, ts, event_id"
    )
    found = map(json.loads, (await exported(exports, FileFormat.NDJSON)).splitlines())
    assert [(event["device_id"], event["event_id"]) for event in found] == [
        tuple(row) for row in order
    ]


async def test_an_export_without_events_is_a_file_without_rows(exports: ExportStore) -> None:
    assert await exported(exports, FileFormat.CSV) == CSV_HEADER
    assert await exported(exports, FileFormat.NDJSON) == b""
    table = pq.read_table(io.BytesIO(await exported(exports, FileFormat.PARQUET)))
    assert (table.num_rows, table.num_columns) == (0, 8)


@pytest.mark.parametrize("form", FileFormat)
async def test_filters_hold_together(
    exports: ExportStore, db: Connection, form: FileFormat, small_slices: None
) -> None:
    await store(db, *made_up(Random(3), 300))
    selection = {
        "device_ids": ["d1", "d3", "nobody"],
        "tags": tags_query(["plain"]),
        "metrics": ["m1", "m4", "none"],
    }
    found = Counter(await values(exports, form, **selection))
    assert found
    assert found == await readings(
        db, "device_id in ('d1', 'd3') and tags @> '{plain}' and metric in ('m1', 'm4')"
    )
    assert not await values(exports, form, device_ids=["nobody"])
    assert not await values(exports, form, metrics=["none"])
    assert not await values(exports, form, tags=tags_query(["plain", "none"]))


async def test_the_range_is_half_open(exports: ExportStore, db: Connection) -> None:
    await store(
        db, *({"device": "d", "ts": NOW + timedelta(seconds=n), "id": f"{n}"} for n in range(4))
    )
    found = await values(
        exports, FileFormat.CSV, start=NOW + timedelta(seconds=1), end=NOW + timedelta(seconds=3)
    )
    assert [row[1] for row in found] == ["1", "2"]


async def test_concurrent_writes_neither_repeat_nor_lose_an_event(
    exports: ExportStore, db: Connection, small_slices: None
) -> None:
    random = Random(4)
    await store(db, *made_up(random, 200))
    before = await readings(db)
    found = list[Any]()
    number = 0
    async for body in await exports.begin(ExportSelection(), FileFormat.NDJSON):
        found += map(json.loads, body.splitlines())
        await store(db, *made_up(random, 3, prefix=f"later{number}-"))
        number += 1
    times = Counter((event["device_id"], event["event_id"]) for event in found)
    assert set(times.values()) == {1}
    assert {row[:2] for row in before} <= set(times)


async def test_one_instant_may_hold_more_events_than_a_slice(
    exports: ExportStore, db: Connection, small_slices: None
) -> None:
    await store(db, *({"device": "d", "ts": NOW, "id": f"{n}"} for n in range(50)))
    found = await values(exports, FileFormat.CSV)
    assert [row[1] for row in found] == sorted(f"{n}" for n in range(50))


async def test_a_slice_of_the_largest_events_is_as_small_as_any(
    exports: ExportStore, db: Connection
) -> None:
    large = {
        "metrics": {f"metric-{n}".ljust(128, "x"): n for n in range(64)},
        "tags": [f"{n}".ljust(128, "y") for n in range(32)],
    }
    await store(
        db, *({"device": "d", "ts": NOW, "id": f"{n}".ljust(128, "z")} | large for n in range(60))
    )
    slices = await exports.begin(ExportSelection(), FileFormat.PARQUET)
    sizes = [len(body) async for body in slices]
    assert sum(sizes) > 15_000_000
    assert max(sizes) < 2_500_000


async def test_an_export_continues_after_its_connection_is_lost(
    exports: ExportStore, db: Connection, small_slices: None
) -> None:
    await store(db, *made_up(Random(5), 100))
    lines, cuts = list[bytes](), 0
    async for body in await exports.begin(ExportSelection(), FileFormat.NDJSON):
        lines += body.splitlines()
        if cuts < 3:
            cuts += await db.fetchval(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                " where application_name = 'export' and datname = current_database()"
            )
    assert cuts == 3
    assert len(lines) == len(set(lines)) == 100


async def test_between_two_slices_nothing_is_held_in_the_database(
    exports: ExportStore, db: Connection, small_slices: None
) -> None:
    await store(db, *made_up(Random(6), 100))
    async for _ in await exports.begin(ExportSelection(), FileFormat.CSV):
        states = await db.fetch(
            "select state, backend_xmin from pg_stat_activity"
            " where application_name = 'export' and datname = current_database()"
        )
        assert {tuple(row) for row in states} == {("idle", None)}


async def test_dropped_raw_events_are_reported_before_anything_is_sent(
    exports: ExportStore, db: Connection
) -> None:
    floor = NOW.replace(day=1, hour=0, minute=0)
    await store(db, {"device": "d", "ts": NOW - timedelta(days=40), "id": "old"},
                {"device": "d", "ts": NOW, "id": "new"})  # fmt: skip
    await db.execute("update rollup_state set floor = $1", floor)
    with pytest.raises(RawEventsDropped, match=rfc3339(floor)):
        await exported(exports, FileFormat.CSV, start=NOW - timedelta(days=41))
    with pytest.raises(RawEventsDropped, match=rfc3339(floor)):
        await exported(exports, FileFormat.CSV, end=floor)
    assert [row[1] for row in await values(exports, FileFormat.CSV)] == ["new"]
    assert [row[1] for row in await values(exports, FileFormat.CSV, start=floor)] == ["new"]


async def test_an_export_is_aborted_when_retention_overtakes_it(
    exports: ExportStore, db: Connection, small_slices: None
) -> None:
    await store(db, *({"device": "d", "ts": NOW, "id": f"{n}"} for n in range(20)))
    slices = await exports.begin(ExportSelection(), FileFormat.PARQUET)
    file = (await encoding_of(FileFormat.PARQUET)).encode(slices)
    await db.execute("update rollup_state set floor = $1", NOW + timedelta(days=30))
    with pytest.raises(RawEventsDropped):
        async for _ in file:
            pass


async def test_a_slice_reads_no_more_of_a_month_than_it_shows(
    exports: ExportStore, db: Connection
) -> None:
    await db.execute("insert into device (device_id) select 'd' || n from generate_series(1, 50) n")
    await db.execute(
        "insert into event select d, $1::timestamptz + m * interval '1 minute', 'e' || m, '{\"temp\": 1}',"
        " '{}', null, now() from generate_series(1, 50) d, generate_series(0, 999) m",
        NOW.replace(day=1),
    )
    await db.execute("analyze event")
    for name, value in EXPORT_SESSION.items():
        await db.execute(f"set {name} = '{value}'")
    start = NOW.replace(day=1)
    for key in ((0, start, ""), (25, start + timedelta(minutes=500), "e500")):
        plan = await db.fetchval(
            f"explain (analyze, costs off, buffers off, timing off, format json) {queries.export_slice}",
            start, start + timedelta(minutes=600), *key, 100, 2_000_000, None, None, None, "csv",
        )  # fmt: skip
        read = [
            node
            for node in nodes(json.loads(plan)[0]["Plan"])
            if "event_2" in node.get("Relation Name", "")
        ]
        assert {node["Node Type"] for node in read} == {"Index Scan"}
        assert sum(node["Actual Rows"] * node["Actual Loops"] for node in read) <= 200


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


async def test_an_export_beyond_the_limit_is_refused_until_one_ends() -> None:
    nothing: Any = None
    exports = ExportStore(nothing)
    slots = [exports.export_slot() for _ in range(export_store.EXPORTS_MAX)]
    for slot in slots:
        slot.__enter__()
    with pytest.raises(Overloaded) as refused, exports.export_slot():
        pass
    assert refused.value.retry_after_s > 0
    slots[0].__exit__(None, None, None)
    with exports.export_slot():
        pass


async def test_the_view_readings_shows_a_row_per_value(db: Connection) -> None:
    await store(
        db,
        {
            "device": "d",
            "ts": NOW,
            "id": "e",
            "metrics": {"a": 1, "b": 2.5},
            "tags": ["t"],
            "seq": 7,
        },
    )
    rows = await db.fetch("select * from readings order by metric")
    assert [dict(row) for row in rows] == [
        {"device_id": "d", "event_id": "e", "ts": NOW, "metric": metric, "value": value, "tags": ["t"],
         "seq": 7, "received_at": NOW}
        for metric, value in (("a", 1.0), ("b", 2.5))
    ]  # fmt: skip
