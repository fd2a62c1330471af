"""What SQL users read: a row per event, a row per value, and events by their tags."""

from datetime import UTC, datetime

from schema.database import Connection
from tests.support.database.app_role import documented_statements

AT = datetime(2026, 2, 1, 14, 23, 45, tzinfo=UTC)
AWKWARD = ["room:101", "it's", "a\\b", "two words", "a & !b:*", "'", "ü"]
FILL = """
with one as (insert into device (device_id) values ('deviceA') returning device_no)
insert into event select device_no, $1, 'e' || n, '{"temp": 21.5, "soc_percent": 67}', $2::text[], n, $1
from one, generate_series(1, 2) n
"""


async def test_an_event_is_a_row_of_one_view_and_each_of_its_values_of_the_other(
    db: Connection,
) -> None:
    await db.execute(FILL, AT, AWKWARD)
    event = await db.fetchrow("select * from events where event_id = 'e1'")
    assert event is not None
    assert dict(event) == {
        "device_id": "deviceA", "event_id": "e1", "ts": AT,
        "metrics": '{"temp": 21.5, "soc_percent": 67}', "tags": AWKWARD, "seq": 1, "received_at": AT,
    }  # fmt: skip
    values = await db.fetch("select metric, value from readings where event_id = 'e1' order by 1")
    assert [tuple(row) for row in values] == [("soc_percent", 67.0), ("temp", 21.5)]
    for tag in AWKWARD:
        assert await db.fetchval("select count(*) from events where has_tag(tags, $1)", tag) == 2
    for tag in ("room", "room:", "two", "%", "\\", "''"):
        assert await db.fetchval("select count(*) from events where has_tag(tags, $1)", tag) == 0


async def test_every_documented_query_runs(db: Connection) -> None:
    await db.execute(FILL, AT, ["room:101"])
    found = [
        len(await db.fetch(query)) for query in documented_statements("Fast queries", "docs/sql.md")
    ]
    assert len(found) == 6
    assert found[0] == 2
