"""The formats of an export: what stands around the lines that the database wrote."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from api.export.store import Format
from runtime.errors import InvalidRequest

PIECE_BYTES_MAX = 64 * 1024  # What a slow client must take within the time of a piece.
CSV_HEADER = b"device_id,event_id,timestamp,metric,value,tags,seq,received_at\n"

Slices = AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Encoding:
    media_type: str
    dress: Callable[[Slices], Slices]


async def encoding(form: Format) -> Encoding:
    """Raises InvalidRequest if this installation cannot write the format."""
    match form:
        case Format.CSV:
            return Encoding("text/csv; header=present", _csv)
        case Format.NDJSON:
            return Encoding("application/x-ndjson", _in_pieces)
        case Format.PARQUET:
            return Encoding("application/vnd.apache.parquet", await _parquet())


async def _parquet() -> Callable[[Slices], Slices]:
    try:
        # Importing pyarrow takes 0.3 s and 60 MB: only where it is asked for, and not in the loop.
        module: Any = await asyncio.to_thread(import_module, "api.export.parquet")
    except ImportError as error:
        raise InvalidRequest(
            "format: parquet needs pyarrow, which is not installed here; pip install 'voltwire[parquet]'."
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
