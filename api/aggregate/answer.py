"""The JSON of an answer, written from the columns of the statement.

The server sends each column as one text, which takes it a third of the time of writing rows; msgspec reads
and writes them. The event loop gets its turn between the pieces of work, the longest of which takes some
milliseconds for 50,000 rows. docs/decisions/0045-aggregates-as-columns.md has the measurements.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from api.aggregate.bucket_texts import BucketTexts
from api.aggregate.numbers import Number, numbers
from api.aggregate.query import AggregateQuery, Format
from api.aggregate.sql import group_names, shared_stat
from api.aggregate.stats import Stat

ROWS_AT_ONCE = 5_000
SHAPES_MAX = 64  # Of rows, by their members. Another one takes a millisecond to make.

_encoder = msgspec.json.Encoder()
_texts = msgspec.json.Decoder(list[str])
_integers = msgspec.json.Decoder(list[int])


class Columns(NamedTuple):
    """The columns of an answer, all of one length. A start is in microseconds since 2000."""

    starts: Sequence[int]
    groups: Mapping[str, Sequence[str]]
    stats: Mapping[str, Sequence[Number]]


async def written(query: AggregateQuery, row: Any) -> bytes:
    """The answer; `row` is that of the statement, None for an answer without rows."""
    columns = await _columns(query, row)
    write = _rows if query.format is Format.ROWS else _groups
    text = bytearray(b"[]")
    async for some in write(query, columns):
        _append(text, some)
    ungrouped = query.format is Format.COLUMNS and not columns.groups
    return bytes(memoryview(text)[1:-1] if ungrouped else text)


def _append(text: bytearray, some: list[Any]) -> None:
    """Add members to an array that is not empty, or replace an empty one, without copying them again."""
    last = len(text) - 1 if len(text) > len("[]") else 0
    _encoder.encode_into(some, text, last)
    if last:
        text[last] = ord(",")


async def _columns(query: AggregateQuery, row: Any) -> Columns:
    names = group_names(query)
    if row is None or not row["rows"]:
        return Columns((), dict.fromkeys(names, ()), dict.fromkeys(map(str, query.stats), ()))
    starts = struct.unpack(f">{row['rows']}q", row["at"])
    groups = {name: _texts.decode(f"[{row[name]}]") for name in names}
    stats = {name: values async for name, values in _stats(query, row)}
    return Columns(starts, groups, stats)


async def _stats(query: AggregateQuery, row: Any) -> AsyncIterator[tuple[str, Sequence[Number]]]:
    """The column of each statistic. Where the count is 1, nearly all have the value of one of them."""
    counts = _integers.decode(f"[{row['count']}]")
    shared_name, shared = shared_stat(query), list[Number]()
    for stat in query.stats:
        if stat is Stat.COUNT:
            values: Sequence[Number] = counts
        elif stat is shared_name:
            values = shared = numbers(row[stat])
        elif stat is Stat.STDDEV:
            values = numbers(row[stat])
        else:
            values = _with_single_readings(row[stat], counts, shared)
        yield str(stat), values
        await asyncio.sleep(0)


def _with_single_readings(
    others: str | None, counts: Sequence[int], shared: Sequence[Number]
) -> Sequence[Number]:
    if others is None:
        return shared
    values = numbers(others)
    if len(values) == len(counts):
        return values
    rest = iter(values)
    pairs = zip(counts, shared, strict=True)
    return [value if count == 1 else next(rest) for count, value in pairs]


async def _rows(query: AggregateQuery, columns: Columns) -> AsyncIterator[list[Any]]:
    """An object per row, many at a time."""
    buckets, members = BucketTexts(query.offsets), {**columns.groups, **columns.stats}
    row = _row(tuple(members))
    for start in range(0, len(columns.starts), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        texts = buckets.of(columns.starts[some])
        yield list(map(row, texts, *(column[some] for column in members.values())))
        await asyncio.sleep(0)


@lru_cache(SHAPES_MAX)
def _row(names: tuple[str, ...]) -> type[msgspec.Struct]:
    fields = [("bucket", str), *((name, Any) for name in names)]
    return msgspec.defstruct("Row", fields, gc=False)


async def _groups(query: AggregateQuery, columns: Columns) -> AsyncIterator[list[Any]]:
    """An object per group, with an array per column; without groups a single one."""
    buckets, written_rows = BucketTexts(query.offsets), 0
    for start, stop in _runs(columns):
        yield [
            {name: column[start] for name, column in columns.groups.items()}
            | {"bucket": buckets.of(columns.starts[start:stop])}
            | {name: column[start:stop] for name, column in columns.stats.items()}
        ]
        if stop - written_rows >= ROWS_AT_ONCE:
            written_rows = stop
            await asyncio.sleep(0)


def _runs(columns: Columns) -> Iterator[tuple[int, int]]:
    """The half-open range of rows of each group."""
    if not columns.groups:
        yield 0, len(columns.starts)
        return
    start = 0
    for _, rows in groupby(zip(*columns.groups.values(), strict=True)):
        stop = start + sum(1 for _ in rows)
        yield start, stop
        start = stop
