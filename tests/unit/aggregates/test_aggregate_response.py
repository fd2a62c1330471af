"""The JSON of aggregates, written from the columns that the statement returns."""

import asyncio
import json
import struct
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from api.aggregate.bucket_texts import MICROSECOND, POSTGRES_EPOCH, BucketTexts
from api.aggregate.buckets import offset_changes
from api.aggregate.numbers import VALUES_AT_ONCE as SLOW_AT_ONCE
from api.aggregate.numbers import numbers
from api.aggregate.query import AggregateQuery, Format, GroupBy
from api.aggregate.reader import AGGREGATE_ROWS_MAX
from api.aggregate.response import VALUES_AT_ONCE, written
from api.aggregate.stats import Stat

START = datetime(2026, 3, 28, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
QUERY = AggregateQuery(
    ("temp",), ("a",), None, START, START + 4 * HOUR,
    stats=(Stat.COUNT, Stat.AVG, Stat.MAX, Stat.STDDEV),
).of("1h")  # fmt: skip


def binary(starts: Sequence[datetime]) -> bytes:
    us = [(start - POSTGRES_EPOCH) // MICROSECOND for start in starts]
    return struct.pack(f">{len(us)}q", *us)


def row(*starts: datetime, **columns: str | None) -> dict[str, Any]:
    return {"rows": len(starts), "at": binary(starts), **columns}


async def response(query: AggregateQuery, found: Any) -> Any:
    return json.loads(await written(query, found))


async def test_a_bucket_with_one_reading_repeats_its_value() -> None:
    found = row(
        START, START + HOUR, START + 2 * HOUR,
        count="1,3,1", avg="7,8.5,9", max="12", stddev="null,2.25,null",
    )  # fmt: skip
    rows = [[each[name] for name in QUERY.stats] for each in await response(QUERY, found)]
    assert rows == [[1, 7, 7, None], [3, 8.5, 12, 2.25], [1, 9, 9, None]]
    single = row(START, count="1", avg="7", max=None, stddev="null")
    assert await written(QUERY, single) == (
        b'[{"bucket":"2026-03-28T22:00:00Z","count":1,"avg":7,"max":7,"stddev":null}]'
    )


async def test_columns_are_an_object_per_group_and_names_are_escaped() -> None:
    grouped = replace(
        QUERY, group_by=(GroupBy.TAG,), format=Format.COLUMNS, stats=(Stat.COUNT, Stat.SUM)
    )
    found = row(
        START, START + HOUR, START, tag=r'"a\".0,","a\".0,","b"', count="2,2,2", sum="4,40.5,1e3",
    )  # fmt: skip
    found["sum"] = "4,40.5,1000"
    first, second = await response(grouped, found)
    assert first == {
        "tag": 'a".0,',
        "bucket": ["2026-03-28T22:00:00Z", "2026-03-28T23:00:00Z"],
        "count": [2, 2],
        "sum": [4, 40.5],
    }
    assert second["tag"] == "b"
    ungrouped = replace(grouped, group_by=())
    assert await response(ungrouped, None) == {"bucket": [], "count": [], "sum": []}
    assert await response(grouped, None) == []
    assert await response(QUERY, None) == []


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize(("value", "rows"), [("2.5", AGGREGATE_ROWS_MAX), ("0.0000001", 5_000)])
async def test_other_requests_get_their_turn_while_a_long_answer_is_written(
    value: str, rows: int, form: Format
) -> None:
    starts = [START + number * timedelta(seconds=1) for number in range(rows)]
    column = ",".join([value] * len(starts))
    found = row(*starts, count=",".join(["2"] * len(starts)), avg=column, max=column, stddev=column)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    text = await written(replace(QUERY, format=form), found)
    other.cancel()
    assert text.count(b"2026-") == rows
    slow = 0 if value == "2.5" else 3 * rows / SLOW_AT_ONCE
    assert turns >= len(QUERY.stats) - 1 + slow + rows / (2 * VALUES_AT_ONCE)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"])
def test_the_text_of_a_bucket_has_the_offset_of_its_zone(zone: str) -> None:
    starts = [START - 200 * timedelta(days=1) + n * timedelta(minutes=97) for n in range(7000)]
    tz = ZoneInfo(zone)
    offsets = offset_changes(tz, starts[0], starts[-1] + HOUR)
    texts = BucketTexts(offsets).of([(start - POSTGRES_EPOCH) // MICROSECOND for start in starts])
    expected = [start.astimezone(tz).isoformat(timespec="seconds") for start in starts]
    assert [text.replace("Z", "+00:00") for text in texts] == expected
    before_2000 = -timedelta(days=1, seconds=1) // MICROSECOND
    assert BucketTexts(offset_changes(ZoneInfo("UTC"), START, START)).of([before_2000]) == [
        "1999-12-30T23:59:59Z"
    ]


@pytest.mark.parametrize(
    ("decimal", "form"),
    {
        "40": "40",
        "34.2": "34.2",
        "-0.5": "-0.5",
        "0": "0",
        "62.7316666666666667": "62.73166666666667",
        "39.9999999999999999": "40",
        "70.0000000000000001": "70",
        "123456789.00000001": "123456789.00000001",
        "1234567890123.4567891234": "1234567890123.4568",
        "12345678901234.9999999": "12345678901235",
        "0.00001": "0.00001",
        "0.0000001": "1e-07",
        "-0.00001234": "-1.234e-05",
        "1000000000000000": "1000000000000000",
        "9007199254740991": "9007199254740991",
        "9500000000000000": "9.5e+15",
        "12345678901234567000": "1.2345678901234567e+19",
        "1" + "0" * 400: "null",
        "-1" + "0" * 400: "null",
        "-0." + "0" * 400 + "1": "0",
        "null": "null",
    }.items(),
)
async def test_a_number_has_the_form_of_all_answers_whatever_stands_beside_it(
    decimal: str, form: str
) -> None:
    for beside in ("1.5", "1" + "0" * 310, "0.0000001", "null"):
        first, _ = await numbers(f"{decimal},{beside}")
        _, last = await numbers(f"{beside},{decimal}")
        assert [msgspec.json.encode(value).decode() for value in (first, last)] == [form, form]
