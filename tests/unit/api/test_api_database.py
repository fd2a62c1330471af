"""How the API reads: windows back in time, slots for heavy queries, whose fault an error is."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import asyncpg
import pytest
from litestar import Request
from litestar.testing import RequestFactory

from api.http.problems import database_problem
from api.store.database import HEAVY_QUERIES_MAX, Database
from api.store.events import DEVICE_WINDOWS, FLEET_WINDOWS, lookback_windows
from runtime.errors import Overloaded

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LONG_AGO, FAR = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("spans", [DEVICE_WINDOWS, FLEET_WINDOWS, ()])
@pytest.mark.parametrize("start", [LONG_AGO, NOW - timedelta(days=30), NOW, NOW + timedelta(1)])
def test_the_windows_are_the_range_without_gap_or_overlap(
    start: datetime, spans: tuple[timedelta, ...]
) -> None:
    found = list(lookback_windows(start, FAR, NOW, spans))
    assert (found[0][1], found[-1][0]) == (FAR, start)
    assert all(newer[0] == older[1] for newer, older in pairwise(found))
    assert all(lower < upper for lower, upper in found)


def test_the_first_window_begins_shortly_before_the_newest_possible_row() -> None:
    assert next(lookback_windows(LONG_AGO, FAR, NOW, FLEET_WINDOWS)) == (
        NOW - timedelta(minutes=1),
        FAR,
    )


async def test_heavy_queries_beyond_the_limit_are_refused_until_one_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.store.database.ACQUIRE_S_MAX", 0.01)
    nothing: Any = None
    database = Database(nothing)
    async with AsyncExitStack() as slots:
        for _ in range(HEAVY_QUERIES_MAX):
            await slots.enter_async_context(database.heavy_query_slot())
        with pytest.raises(Overloaded, match="retry"):
            await slots.enter_async_context(database.heavy_query_slot())
    async with database.heavy_query_slot():
        pass


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (asyncpg.UndefinedColumnError("ours"), 500),
        (asyncpg.PostgresSyntaxError("ours"), 500),
        (asyncpg.UndefinedTableError("not migrated"), 503),
        (asyncpg.InsufficientPrivilegeError("a grant"), 503),
        (asyncpg.ConnectionDoesNotExistError("away"), 503),
        (asyncpg.QueryCanceledError("too long"), 422),
        (asyncpg.StatementTooComplexError("too much"), 422),
    ],
)
def test_whose_fault_an_error_of_the_database_is(error: Exception, status: int) -> None:
    request: Request[Any, Any, Any] = RequestFactory().get("/v1/devices")
    assert database_problem(request, error).status_code == status
