"""Parquet, written while events are read. Only this module needs pyarrow, an optional dependency."""

import asyncio
import io
from collections.abc import AsyncIterator

import pyarrow as pa
from pyarrow import json as arrow_json
from pyarrow import parquet as pq

GROUP_ROWS_MAX, GROUP_BYTES_MAX = 50_000, 16_000_000
INSTANT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("device_id", pa.string(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("timestamp", INSTANT, nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
        pa.field("seq", pa.int64()),
        pa.field("received_at", INSTANT, nullable=False),
    ]
)
# Instants are read as text, because the JSON reader accepts no time zone.
_READ_SCHEMA = pa.schema(
    [pa.field(each.name, pa.string() if each.type == INSTANT else each.type) for each in SCHEMA]
)


async def parquet(slices: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A file with a row per value; its footer follows the last row.

    Arrow runs in a thread and releases the GIL, so it does not delay other requests.
    """
    file = _File()
    async for body in slices:
        if body:
            yield await asyncio.to_thread(file.add, body)
    yield await asyncio.to_thread(file.end)


class _File:
    """A Parquet writer with row groups of bounded size; its methods return the bytes that are new."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._writer = pq.ParquetWriter(self._sink, SCHEMA, compression="zstd")
        self._pending: list[pa.Table] = []

    def add(self, lines: bytes) -> bytes:
        self._pending.append(_table(lines))
        rows = sum(table.num_rows for table in self._pending)
        size = sum(table.nbytes for table in self._pending)
        if rows >= GROUP_ROWS_MAX or size >= GROUP_BYTES_MAX:
            self._write_group()
        return self._sink.take()

    def end(self) -> bytes:
        self._write_group()
        self._writer.close()
        return self._sink.take()

    def _write_group(self) -> None:
        if self._pending:
            table = pa.concat_tables(self._pending)
            self._pending.clear()
            self._writer.write_table(table, row_group_size=table.num_rows)


class _Sink(io.RawIOBase):
    """A file that can only be written, like a socket."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, chunk: object) -> int:
        self._chunks.append(bytes(chunk))  # type: ignore[call-overload]
        return len(self._chunks[-1])

    def take(self) -> bytes:
        taken = b"".join(self._chunks)
        self._chunks.clear()
        return taken


def _table(lines: bytes) -> pa.Table:
    read = arrow_json.read_json(
        pa.py_buffer(lines),
        read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        parse_options=arrow_json.ParseOptions(
            explicit_schema=_READ_SCHEMA, unexpected_field_behavior="error"
        ),
    )
    return read.select(SCHEMA.names).cast(SCHEMA)
