"""Each response names its media type once, and only a text has a charset."""

from pathlib import Path

import pytest

from tests.support.http.http_api import api_on

API = Path(__file__).parents[3] / "api"

CONTENT_TYPES = {
    "/v1/export?format=csv": "text/csv; header=present; charset=utf-8",
    "/v1/export?format=ndjson": "application/x-ndjson",
    "/v1/export?format=parquet": "application/vnd.apache.parquet",
    "/v1/devices": "application/json",
    "/v1/devices/none": "application/problem+json",
    "/v1/latest-of-nothing": "application/problem+json",
    "/metrics": "text/plain; version=0.0.4; charset=utf-8",
    "/health": "application/json",
    "/openapi.json": "application/json",
    "/asyncapi": "application/json",
    "/asyncapi?format=html": "text/html; charset=utf-8",
}


@pytest.mark.slow
async def test_each_answer_names_its_media_type_once(dsn: str) -> None:
    async with api_on(dsn) as http:
        found = {path: (await http.get(path)).headers["content-type"] for path in CONTENT_TYPES}
    assert found == CONTENT_TYPES


def test_no_route_names_a_charset_because_litestar_adds_it_to_every_text() -> None:
    """That is also how a stream, whose response does not end, gets it once."""
    for path in API.rglob("*.py"):
        assert "charset=" not in path.read_text(encoding="utf-8"), path
