"""The JSON of a response, written from the columns of the statement.

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

ROWS_AT_ONCE, VALUES_AT_ONCE = 5_000, 25_000
SHAPES_MAX = 64  # Of rows, by their members. Another one takes 0.1 ms to make.

_encoder = msgspec.json.Encoder()
_texts = msgspec.json.Decoder(list[str])
_integers = msgspec.json.Decoder(list[int])


class Columns(NamedTuple):
    """The columns of a response, all of one length. A start is in microseconds since 2000."""

    starts: Sequence[int]
    groups: Mapping[str, Sequence[str]]
    stats: Mapping[str, Sequence[Number]]


async def written(query: AggregateQuery, row: Any) -> bytes:
    """The response; `row` is that of the statement, None for a response without rows."""
    columns = await _columns(query, row)
    if query.format is Format.ROWS:
        return await _rows(query, columns)
    groups = await _groups(query, columns)
    return b"[%b]" % groups if columns.groups else groups


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
            values = shared = await numbers(row[stat])
        elif stat is Stat.STDDEV:
            values = await numbers(row[stat])
        else:
            values = await _with_single_readings(row[stat], counts, shared)
        yield str(stat), values
        await asyncio.sleep(0)


async def _with_single_readings(
    others: str | None, counts: Sequence[int], shared: Sequence[Number]
) -> Sequence[Number]:
    if others is None:
        return shared
    values = await numbers(others)
    if len(values) == len(counts):
        return values
    rest = iter(values)
    pairs = zip(counts, shared, strict=True)
    return [value if count == 1 else next(rest) for count, value in pairs]


async def _rows(query: AggregateQuery, columns: Columns) -> bytes:
    """An array with an object per row, many of them at a time."""
    buckets, members = BucketTexts(query.offsets), {**columns.groups, **columns.stats}
    row, text = _row(tuple(members)), bytearray()
    for start in range(0, len(columns.starts), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        texts = buckets.of(columns.starts[some])
        rows = list(map(row, texts, *(column[some] for column in members.values())))
        end = max(0, len(text) - 1)
        _encoder.encode_into(rows, text, end)
        if end:  # The bracket between the two arrays.
            text[end] = ord(",")
        await asyncio.sleep(0)
    return bytes(text or b"[]")


@lru_cache(SHAPES_MAX)
def _row(names: tuple[str, ...]) -> type[msgspec.Struct]:
    fields = [("bucket", str), *((name, Any) for name in names)]
    return msgspec.defstruct("Row", fields, gc=False)


async def _groups(query: AggregateQuery, columns: Columns) -> bytes:
    """An object per group, with an array per column; without groups a single one."""
    buckets, text, values = BucketTexts(query.offsets), bytearray(), 0
    for start, stop in _runs(columns):
        text += b",{" if text else b"{"
        for name, column in columns.groups.items():
            text += b'"%b":%b,' % (name.encode(), _encoder.encode(column[start]))
        text += b'"bucket":'
        _encoder.encode_into(buckets.of(columns.starts[start:stop]), text, len(text))
        for name, each in columns.stats.items():
            text += b',"%b":' % name.encode()
            _encoder.encode_into(each[start:stop], text, len(text))
            values += stop - start
            if values > VALUES_AT_ONCE:
                values = 0
                await asyncio.sleep(0)
        text += b"}"
    return bytes(text)


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
