"""The formats of an export: they turn the lines that the database writes into a file."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from api.export.store import FileFormat
from runtime.errors import InvalidRequest

PIECE_BYTES_MAX = (
    64 * 1024
)  # A client must read a piece within SEND_S_MAX (api/routes/events/exports.py).
CSV_HEADER = b"device_id,event_id,timestamp,metric,value,tags,seq,received_at\n"

Slices = AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Encoding:
    media_type: str
    encode: Callable[[Slices], Slices]


async def encoding_of(file_format: FileFormat) -> Encoding:
    """Raises InvalidRequest if pyarrow is needed but not installed."""
    match file_format:
        case FileFormat.CSV:
            return Encoding("text/csv; header=present", _csv)
        case FileFormat.NDJSON:
            return Encoding("application/x-ndjson", _in_pieces)
        case FileFormat.PARQUET:
            return Encoding("application/vnd.apache.parquet", await _parquet())


async def _parquet() -> Callable[[Slices], Slices]:
    try:
        # Importing pyarrow takes 0.3 s and 60 MB, so it is imported on demand, outside the event loop.
        module: Any = await asyncio.to_thread(import_module, "api.export.parquet")
    except ImportError as error:
        raise InvalidRequest(
            "format: parquet needs pyarrow; install pyarrow into the environment of this server."
        ) from error
    return lambda slices: _in_pieces(module.parquet(slices))


async def _csv(slices: Slices) -> Slices:
    yield CSV_HEADER
    async for piece in _in_pieces(slices):
        yield piece


async def _in_pieces(slices: Slices) -> Slices:
    async for body in slices:
        for at in range(0, len(body), PIECE_BYTES_MAX):
            yield body[at : at + PIECE_BYTES_MAX]
