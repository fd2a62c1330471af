"""Exports without a database: how a range is split, and what happens to a client that reads nothing."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.export.formats import PIECE_BYTES_MAX, encoding_of
from api.export.store import FileFormat, partition_windows
from api.middleware.slow_clients import disconnect_slow_clients
from runtime.errors import InvalidRequest


def at(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def test_a_range_is_split_at_midnight_and_months_without_events_are_left_out() -> None:
    months = [at("2025-12-01"), at("2026-02-01"), at("2026-03-01")]
    start, end = at("2025-12-30T10:00"), at("2026-03-01T06:00")
    by_day = list(partition_windows(months, start, end, by_day=True))
    assert by_day[:3] == [
        (start, at("2025-12-31")),
        (at("2025-12-31"), at("2026-01-01")),
        (at("2026-02-01"), at("2026-02-02")),
    ]
    assert by_day[-1] == (at("2026-03-01"), end)
    assert len(by_day) == 2 + 28 + 1
    assert list(partition_windows(months, start, end, by_day=False)) == [
        (start, at("2026-01-01")),
        (at("2026-02-01"), at("2026-03-01")),
        (at("2026-03-01"), end),
    ]
    assert not list(partition_windows(months, at("2026-04-01"), at("2027-01-01"), by_day=True))


def test_an_instant_of_another_offset_is_split_at_midnight_in_utc() -> None:
    start = datetime.fromisoformat("2026-02-02T01:00+02:00")
    (first, second, *_) = partition_windows(
        [at("2026-02-01")], start, at("2026-03-01"), by_day=True
    )
    assert first == (start, at("2026-02-02"))
    assert second.end - second.start == timedelta(days=1)


async def test_a_slice_is_sent_in_pieces_that_a_slow_client_can_read() -> None:
    async def slices() -> Any:
        yield b"a" * (PIECE_BYTES_MAX + 1)
        yield b""
        yield b"b"

    pieces = (await encoding_of(FileFormat.NDJSON)).encode(slices())
    assert [len(piece) async for piece in pieces] == [PIECE_BYTES_MAX, 1, 1]


async def test_without_pyarrow_parquet_is_refused_and_pyarrow_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "api.export.parquet", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidRequest, match="install pyarrow"):
        await encoding_of(FileFormat.PARQUET)


async def test_a_client_that_reads_nothing_ends_its_stream() -> None:
    sent = list[Any]()
    ended = False

    async def app(_: Any, __: Any, send: Any) -> None:
        nonlocal ended
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        finally:
            ended = True

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 3:
            await asyncio.Event().wait()

    nothing: Any = None
    await disconnect_slow_clients(0.05)(app)(nothing, nothing, send)
    assert ended
    assert len(sent) == 3
