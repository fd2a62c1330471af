"""One number has one form in every response."""

import re
from typing import Any

import httpx
import pytest

from scheduler.rollups import roll
from schema.feed import read_feed
from tests.support.http.http_api import api_on

# As a device may send it, and as every response writes it.
FORMS = {
    "12345678901234567000": "1.2345678901234567e+19",
    "1e300": "1e+300",
    "-1.5e16": "-1.5e+16",
    "9500000000000000": "9.5e+15",
    "1e15": "1000000000000000",
    "9007199254740991": "9007199254740991",
    "9007199254740992": "9007199254740992",
    "-9007199254740992.0": "-9007199254740992",
    "-9007199254740991.0": "-9007199254740991",
    "1e-7": "1e-07",
    "-5e-324": "-5e-324",
    "0.000001": "0.000001",
    "34.20": "34.2",
    "-0.0": "0",
    "40.0": "40",
    "0.30000000000000004": "0.30000000000000004",
}
DAY = "from_time=2026-02-01T00:00:00Z&to_time=2026-02-02T00:00:00Z"
NUMBER = r"(-?[0-9][0-9.e+-]*)"


async def forms(http: httpx.AsyncClient, path: str, pattern: str) -> set[str]:
    response = await http.get(path)
    assert response.status_code == httpx.codes.OK, response.text
    found = set(re.findall(pattern, response.text))
    assert found, response.text
    return found


@pytest.mark.parametrize(("sent", "form"), FORMS.items())
async def test_a_number_has_one_form_everywhere(dsn: str, db: Any, sent: str, form: str) -> None:
    async with api_on(dsn) as http:
        json = {"Content-Type": "application/json"}
        rule = f'{{"metric":"x","op":"<=","threshold":{sent}}}'
        threshold = f'"threshold": ?{NUMBER}'
        response = await http.post("/v1/alerts", content=rule, headers=json)
        assert set(re.findall(threshold, response.text)) == {form}
        assert await forms(http, "/v1/alerts", threshold) == {form}
        await http.put(
            "/v1/profiles/p", content=f'{{"metrics":{{"x":{{"min":{sent}}}}}}}', headers=json
        )
        assert await forms(http, "/v1/profiles/p", f'"min":{NUMBER}') == {form}
        await http.put("/v1/devices/b", content=f'{{"attributes":{{"n":{sent}}}}}', headers=json)
        assert await forms(http, "/v1/devices/b", f'"n":{NUMBER}') == {form}
        body = (
            '{"event_id":"e","device_id":"a","timestamp":"2026-02-01T10:00:00Z","tags":["t"],'
            f'"metrics":{{"x":{sent}}}}}'
        )
        assert (await http.post("/v1/events", content=body, headers=json)).is_success
        (alert,) = [item.body.decode() for item in await read_feed(db, 0) if item.kind == "alert"]
        assert set(re.findall(f'"(?:x|value|threshold)": ?{NUMBER}', alert)) == {form}
        stats = "count,sum,avg,min,max,first,last,p50"
        member = f'"(?:sum|avg|min|max|first|last|p50)": ?{NUMBER}'
        aggregate = f"/v1/metrics/aggregate?metric=x&stats={stats}&interval=1h&{DAY}"
        for _ in range(2):  # From events, then from rollups.
            assert await forms(http, aggregate, member) == {form}
            assert await forms(http, f"{aggregate}&device_id=a&fill=linear", member) == {form}
            assert await forms(http, "/devices/a/summary?date=2026-02-01", member) == {form}
            latest = f'"value" ?: ?{NUMBER}'
            assert await forms(http, "/v1/devices/a/latest", latest) == {form}
            await roll(db)
        metric = f'"x": ?{NUMBER}'
        points = "/devices/a/metrics?start_time=2026-02-01T00:00:00Z&end_time=2026-02-02T00:00:00Z"
        for path in (
            "/v1/devices/a/events",
            "/v1/search?tag=t",
            points,
            "/v1/export?format=ndjson",
        ):
            assert await forms(http, path, metric) == {form}
        assert await forms(http, "/v1/export?format=csv", f",x,{NUMBER},") == {form}
