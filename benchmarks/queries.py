"""Queries on a generated year over HTTP, each compared with the same query of the one-table baseline.

Both read the same events from the same PostgreSQL, one after the other, and must give the same answer: the
same rows, with numbers that differ by no more than the rounding of the baseline's doubles.
"""

import asyncio
import http.client
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
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
        with role("api", server) as api:
            for case in query_cases(year):
                yield _row(case, api, server)


@dataclass(frozen=True)
class Answers:
    """The last answer, and the time that each one took."""

    body: bytes
    ms: list[float]


def _row(case: QueryCase, api: RoleProcess, server: DatabaseServer) -> Row:
    api_s, server_s = role_cpu_seconds(api), server_cpu_seconds()
    ours = _over_http(case, api.port)
    runs = WARM_UP + len(ours.ms)
    api_s, server_s = role_cpu_seconds(api) - api_s, server_cpu_seconds() - server_s
    baseline = _of_baseline(case, server)
    if not agrees(json.loads(ours.body), json.loads(baseline.body)):
        raise RuntimeError(f"{case.name}: the answers differ.")
    p50, baseline_p50 = percentile(ours.ms, 50), percentile(baseline.ms, 50)
    return {
        "query": case.name,
        "runs": len(ours.ms),
        "answer, KiB": len(ours.body) / 1024,
        "fastest, ms": min(ours.ms),
        "p50, ms": p50,
        "p99, ms": percentile(ours.ms, 99),
        "target, ms": case.target_ms or "",
        "API CPU, ms": api_s / runs * 1e3,
        "PostgreSQL CPU, ms": server_s / runs * 1e3,
        "the baseline, p50, ms": baseline_p50,
        "times": baseline_p50 / p50,
    }


def _over_http(case: QueryCase, port: int) -> Answers:
    """Measure until the last byte of the answer, over one kept connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S_MAX)
    path = f"{case.path}?{urlencode(case.parameters)}"

    def fetch() -> bytes:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{case.name}: {answer.status} {body[:500]!r}")
        return body

    try:
        return _timed(fetch)
    finally:
        connection.close()


def _of_baseline(case: QueryCase, server: DatabaseServer) -> Answers:
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(server.dsn, command_timeout=ANSWER_S_MAX))
        try:
            return _timed(lambda: runner.run(case.baseline.fetch(connection)))
        finally:
            runner.run(connection.close())


def _timed(fetch: Callable[[], bytes]) -> Answers:
    for _ in range(WARM_UP):
        fetch()
    began, ms = time.perf_counter(), list[float]()
    while len(ms) < REPEATS_MIN or (
        len(ms) < REPEATS_MAX and time.perf_counter() - began < REPEAT_S_MAX
    ):
        start = time.perf_counter()
        body = fetch()
        ms.append((time.perf_counter() - start) * 1e3)
    return Answers(body, ms)


def agrees(ours: Any, baseline: Any) -> bool:
    """Whether both answers have the same rows and values; ours may have further fields."""
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
