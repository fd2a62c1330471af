"""Queries on a generated year over HTTP, each compared with the same query of the one-table baseline.

Both read the same events from the same PostgreSQL, one after the other, and must give the same response: the
same rows, with numbers that differ by no more than the rounding of the baseline's doubles.
"""

import asyncio
import http.client
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

import asyncpg

from benchmarks.load.year import Year, fill, last_hour, roll_up, sizes, tidy
from benchmarks.query_cases import QueryCase, query_cases
from benchmarks.rates import percentile
from benchmarks.report import Options, Row
from benchmarks.services import (
    DatabaseServer,
    RoleProcess,
    database,
    role,
    role_cpu_seconds,
    server_cpu_seconds,
)

WARM_UP = 3
REPEATS_MIN, REPEATS_MAX, REPEAT_S_MAX = 5, 100, 10.0
ANSWER_S_MAX = 60
HIDE_MIGRATIONS = """
    with hidden as (delete from schema_migration where version > $1 returning *)
    select * into hidden_migration from hidden
"""
SHOW_MIGRATIONS = "insert into schema_migration select * from hidden_migration"
ROUNDING = 1e-9  # Relative: the baseline adds doubles in another order.


def run(options: Options) -> Iterator[Row]:
    fleet = options.scaled(1000, 20)
    hourly = min(fleet - 1, options.scaled(options.hourly))
    year = Year(options.scaled(365, 4), hourly, fleet, last_hour())
    with database() as server:
        fill(server, year)
        yield from roll_up(server, year)
        tidy(server)
        yield sizes(server, year)
        with _other_api(options, server) as other, role("api", server) as api:
            for case in query_cases(year):
                yield _row(case, api, other, server)


@contextmanager
def _other_api(options: Options, server: DatabaseServer) -> Iterator[RoleProcess | None]:
    """The API of the other checkout. An older one looks at its start only whether the schema is newer."""
    if options.beside is None:
        yield None
        return
    newest = max(path.name for path in options.beside.glob("schema/migrations/*.sql"))
    server.execute(HIDE_MIGRATIONS, int(newest.partition("_")[0]))
    with role("api", server, source=options.beside.resolve()) as api:
        server.execute(SHOW_MIGRATIONS)
        yield api


@dataclass
class Responses:
    """The last response, the time that each one took, and the CPU that all of them took."""

    body: bytes = b""
    ms: list[float] = field(default_factory=list)
    api_s: float = 0.0
    server_s: float = 0.0

    @property
    def cpu_ms(self) -> float:
        return (self.api_s + self.server_s) / len(self.ms) * 1e3


def _row(
    case: QueryCase, api: RoleProcess, other: RoleProcess | None, server: DatabaseServer
) -> Row:
    ours, *others = _over_http(case, [api] if other is None else [api, other])
    baseline = _of_baseline(case, server)
    for responses in (ours, *others):
        if not agrees(json.loads(responses.body), json.loads(baseline.body)):
            raise RuntimeError(f"{case.name}: the responses differ.")
    p50, baseline_p50 = percentile(ours.ms, 50), percentile(baseline.ms, 50)
    return {
        "query": case.name,
        "runs": len(ours.ms),
        "response, KiB": len(ours.body) / 1024,
        "fastest, ms": min(ours.ms),
        "p50, ms": p50,
        "p99, ms": percentile(ours.ms, 99),
        "target, ms": case.target_ms or "",
        "API CPU, ms": ours.api_s / len(ours.ms) * 1e3,
        "PostgreSQL CPU, ms": ours.server_s / len(ours.ms) * 1e3,
        **_compared(ours, others),
        "the baseline, p50, ms": baseline_p50,
        "times": baseline_p50 / p50,
    }


def _compared(ours: Responses, others: list[Responses]) -> dict[str, float]:
    """What the API of the other checkout needed, and our part of that."""
    return {
        name: value
        for other in others
        for name, value in (
            ("other, fastest, ms", min(other.ms)),
            ("other, p50, ms", percentile(other.ms, 50)),
            ("other, CPU, ms", other.cpu_ms),
            ("part of its p50", percentile(ours.ms, 50) / percentile(other.ms, 50)),
            ("part of its CPU", ours.cpu_ms / other.cpu_ms),
        )
    }


def _over_http(case: QueryCase, apis: list[RoleProcess]) -> list[Responses]:
    """Measure until the last byte of the response, over one kept connection each, alternately."""
    path = f"{case.path}?{urlencode(case.parameters)}"
    with ExitStack() as stack:
        connections = [
            stack.enter_context(
                closing(HTTPConnection("127.0.0.1", api.port, timeout=ANSWER_S_MAX))
            )
            for api in apis
        ]
        for connection in connections * WARM_UP:
            _fetch(connection, path)
        responses = [Responses() for _ in apis]
        began = time.perf_counter()
        while _goes_on(len(responses[0].ms), began, len(apis)):
            for turn in zip(apis, connections, responses, strict=True):
                _ask(*turn, path)
    return responses


def _ask(api: RoleProcess, connection: HTTPConnection, responses: Responses, path: str) -> None:
    api_s, server_s = role_cpu_seconds(api), server_cpu_seconds()
    start = time.perf_counter()
    responses.body = _fetch(connection, path)
    responses.ms.append((time.perf_counter() - start) * 1e3)
    responses.api_s += role_cpu_seconds(api) - api_s
    responses.server_s += server_cpu_seconds() - server_s


def _fetch(connection: HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    if response.status != http.client.OK:
        raise RuntimeError(f"{path}: {response.status} {body[:500]!r}")
    return body


def _of_baseline(case: QueryCase, server: DatabaseServer) -> Responses:
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(server.dsn, command_timeout=ANSWER_S_MAX))
        try:
            return _timed(lambda: runner.run(case.baseline.fetch(connection)))
        finally:
            runner.run(connection.close())


def _timed(fetch: Callable[[], bytes]) -> Responses:
    for _ in range(WARM_UP):
        fetch()
    began, responses = time.perf_counter(), Responses()
    while _goes_on(len(responses.ms), began):
        start = time.perf_counter()
        responses.body = fetch()
        responses.ms.append((time.perf_counter() - start) * 1e3)
    return responses


def _goes_on(runs: int, began: float, turns: int = 1) -> bool:
    in_time = time.perf_counter() - began < REPEAT_S_MAX * turns
    return runs < REPEATS_MIN or (runs < REPEATS_MAX and in_time)


def agrees(ours: Any, baseline: Any) -> bool:
    """Whether both responses have the same rows and values; ours may have further fields."""
    match baseline:
        case list():
            return len(ours) == len(baseline) and all(map(agrees, ours, baseline))
        case dict():
            return all(
                name in ours and agrees(ours[name], value) for name, value in baseline.items()
            )
        case int() | float():
            return math.isclose(ours, baseline, rel_tol=ROUNDING)
        case str() if ours != baseline:
            return datetime.fromisoformat(ours) == datetime.fromisoformat(baseline)
        case _:
            return bool(ours == baseline)
