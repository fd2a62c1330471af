"""What every route does alike: HEAD, content types, names in time zones, streams up to a limit."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from api.openapi import document
from tests.support.http.http_api import api_on

pytestmark = pytest.mark.asyncio(loop_scope="module")

MONTH = {"from_time": "2026-02-01T00:00:00Z", "to_time": "2026-03-01T00:00:00Z"}
PATHS: list[tuple[str, dict[str, Any]]] = [
    ("/health", {}),
    ("/live", {}),
    ("/metrics", {}),
    ("/openapi.json", {}),
    ("/docs", {}),
    ("/asyncapi", {}),
    ("/v1/devices", {}),
    ("/v1/devices/a", {}),
    ("/v1/devices/a/events", {}),
    ("/v1/devices/a/latest", {}),
    ("/v1/profiles", {}),
    ("/v1/alerts", {}),
    ("/v1/rejected", {}),
    ("/v1/search", {"tag": "x"}),
    ("/v1/metrics/aggregate", MONTH | {"metric": "x"}),
    ("/v1/export", {"format": "csv"}),
    ("/v1/export", {"format": "ndjson"}),
    ("/v1/alerts/stream", {}),
    ("/v1/presence/stream", {}),
    ("/v1/live", {}),
    ("/v1/devices/unknown", {}),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(database: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(database) as client:
        await client.post(
            "/v1/events", json={"event_id": "1", "device_id": "a", "metrics": {"x": 1}}
        )
        yield client


@pytest.mark.parametrize(("path", "query"), PATHS)
async def test_head_is_answered_as_get_without_the_content(
    http: httpx.AsyncClient, path: str, query: dict[str, Any]
) -> None:
    head = await http.head(path, params=query)
    assert head.content == b""
    if path.endswith(("/stream", "/v1/live")):
        assert head.status_code == 200
        assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
        return
    shown = await http.get(path, params=query)
    assert head.status_code == shown.status_code
    assert head.headers["content-type"] == shown.headers["content-type"]
    if path != "/metrics":  # The numbers there grow from one request to the next.
        assert head.headers.get("content-length") == shown.headers.get("content-length")


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
async def test_the_reference_is_made_once(
    http: httpx.AsyncClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await http.get(path)
    monkeypatch.delattr(document, "described")
    again = await http.get(path)
    assert (again.status_code, again.content) == (200, first.content)


async def test_allow_names_head_wherever_there_is_get(http: httpx.AsyncClient) -> None:
    for path in ("/health", "/v1/devices", "/v1/devices/a", "/v1/alerts/stream"):
        for method in ("OPTIONS", "PATCH"):
            allowed = (await http.request(method, path)).headers["allow"].split(", ")
            assert {"GET", "HEAD"} <= set(allowed), path


async def test_an_error_names_a_parameter_as_clients_write_it(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/devices?latest=x")
    assert (response.status_code, response.json()["errors"]) == (
        422,
        [{"field": "latest", "message": "true or false"}],
    )
    absent = (await http.get("/v1/metrics/aggregate?metric=x&to_time=2026-01-01T00:00:00Z")).json()
    assert absent["detail"] == "from_time: required"
    assert absent["errors"] == [{"field": "from_time", "message": "required"}]


async def test_no_content_type_names_its_charset_twice(http: httpx.AsyncClient) -> None:
    for path, query in PATHS:
        head = await http.head(path, params=query)
        assert head.headers["content-type"].count("charset") <= 1, path


async def test_a_plus_in_the_name_of_a_time_zone_may_arrive_as_a_space(
    http: httpx.AsyncClient,
) -> None:
    query = "metric=x&interval=1d&from_time=2026-02-01&to_time=2026-02-02"
    for zone in ("Etc/GMT+5", "Etc/GMT%2B5", "Etc/GMT%205"):
        response = await http.get(
            f"/v1/metrics/aggregate?{query}&tz={zone}".replace(
                "2026-02-01", "2026-02-01T00:00:00Z"
            ).replace("2026-02-02", "2026-02-02T00:00:00Z")
        )
        assert response.status_code == 200, response.text
        response = await http.get(f"/devices/a/summary?date=2026-02-01&tz={zone}")
        assert response.json()["tz"] == "Etc/GMT+5"


@pytest.mark.parametrize("name", ["last_event_id", "lastEventId"])
async def test_a_stream_is_resumed_by_a_parameter_too_and_an_empty_one_is_absent(
    http: httpx.AsyncClient, name: str
) -> None:
    for path in ("/v1/alerts/stream", "/v1/presence/stream", "/v1/live"):
        assert (await http.head(path, params={name: "5"})).status_code == 200
        assert (await http.head(path, params={name: ""})).status_code == 200
        assert (await http.head(path, headers={"Last-Event-ID": ""})).status_code == 200
        assert (await http.head(path, params={name: "x"})).status_code == 422
