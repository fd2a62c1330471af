"""Every route while the database is away or empty: a problem document, and nothing about our inside."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from api.http.problems import PROBLEM
from tests.conftest import with_database
from tests.support.database.app_role import as_user
from tests.support.http.http_api import api_on

SECRET = "secret-of-the-login"
ANSWER_S_MAX = 60
# Names of files and libraries, statements, messages of PostgreSQL, and how we log in.
INSIDE = re.compile(
    rf"Traceback|\.py\b|asyncpg|Error\b|\bselect\b|\binsert into\b|relation \"|does not exist|{SECRET}"
    r"|postgresql://|nowhere",
    re.IGNORECASE,
)
NEEDED = {
    "from_time": "2026-02-01T00:00:00Z", "to_time": "2026-02-02T00:00:00Z", "interval": "1h",
    "start_time": "2026-02-01T00:00:00Z", "end_time": "2026-02-02T00:00:00Z", "metric": "x",
    "date": "2026-02-01", "tag": "x", "format": "csv",
}  # fmt: skip
EVENT = {"event_id": "1", "device_id": "a", "metrics": {"x": 1}}
RULE = {"metric": "x", "op": ">", "threshold": 1, "severity": "info"}
BODIES: dict[str, Any] = {
    "POST /telemetry": EVENT,
    "POST /v1/events": EVENT,
    "POST /v1/events/batch": [EVENT],
    "POST /v1/devices": {"device_id": "a"},
    "POST /v1/alerts": RULE,
    "PUT /v1/alerts/{rule_id}": RULE,
}
# They ask the database nothing; without authentication there is no session to end.
ALWAYS_OK = {"/live", "/metrics", "/docs", "/openapi.json", "/v1/info", "/v1/session"}


pytestmark = pytest.mark.slow


class Ended(Exception):
    """Cancels what still runs."""


@pytest.fixture(params=["unreachable", "without tables"])
async def http(request: pytest.FixtureRequest, empty_dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    dsn = as_user(empty_dsn, f"postgres:{SECRET}")
    if request.param == "unreachable":
        dsn = with_database(dsn, "nowhere")
    try:
        async with api_on(dsn) as client:
            yield client
            # The pipeline would retry its batch for as long as the database is away.
            raise Ended  # noqa: TRY301  # It ends the group of tasks that is inside.
    except* Ended:
        pass


async def operations(http: httpx.AsyncClient) -> list[tuple[str, str, dict[str, str]]]:
    """Method, path and the query of every route, with a value for each parameter that must be there."""
    document = (await http.get("/openapi.json")).json()
    return [
        (
            method.upper(),
            path,
            {
                each["name"]: NEEDED[each["name"]]
                for each in described.get("parameters", ())
                if each["in"] == "query" and (each["required"] or each["name"] in NEEDED)
            },
        )
        for path, methods in document["paths"].items()
        for method, described in methods.items()
        if path not in ALWAYS_OK
    ]


async def test_no_answer_shows_a_stack_a_login_or_a_statement(http: httpx.AsyncClient) -> None:
    async def check(method: str, path: str, query: dict[str, str]) -> str | None:
        body = BODIES.get(f"{method} {path}", {} if method in {"POST", "PUT"} else None)
        async with asyncio.timeout(ANSWER_S_MAX):
            response = await http.request(
                method, re.sub(r"\{[^}]*\}", "a", path), params=query, json=body
            )
        if path == "/health":
            return None if response.status_code == 503 else f"{path}: {response.status_code}"
        kind = response.headers.get("content-type")
        if response.status_code < 400 or kind != PROBLEM or INSIDE.search(response.text):
            return f"{method} {path}: {response.status_code} {kind} {response.text[:300]}"
        return None

    found = await asyncio.gather(*(check(*each) for each in await operations(http)))
    assert [each for each in found if each is not None] == []
