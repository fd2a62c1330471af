"""One number has one form in every response."""

import re

import httpx
import pytest

from scheduler.rollups import roll
from schema.database import Connection
from schema.feed import read_feed

pytestmark = pytest.mark.asyncio(loop_scope="module")

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
async def test_a_number_has_one_form_everywhere(
    http_of_the_file: httpx.AsyncClient, tables: Connection, sent: str, form: str
) -> None:
    """Device, metric, tag and profile have a name of this number's own."""
    http, name = http_of_the_file, f"n{list(FORMS).index(sent)}"
    json = {"Content-Type": "application/json"}
    fed = await tables.fetchval("select coalesce(max(last_id), 0) from feed")
    rule = f'{{"metric":"{name}","op":"<=","threshold":{sent}}}'
    threshold = f'"threshold": ?{NUMBER}'
    response = await http.post("/v1/alerts", content=rule, headers=json)
    assert set(re.findall(threshold, response.text)) == {form}
    assert await forms(http, f"/v1/alerts/{response.json()['id']}", threshold) == {form}
    assert form in await forms(http, "/v1/alerts", threshold)
    await http.put(
        f"/v1/profiles/{name}", content=f'{{"metrics":{{"x":{{"min":{sent}}}}}}}', headers=json
    )
    assert await forms(http, f"/v1/profiles/{name}", f'"min":{NUMBER}') == {form}
    await http.put(f"/v1/devices/b{name}", content=f'{{"attributes":{{"n":{sent}}}}}', headers=json)
    assert await forms(http, f"/v1/devices/b{name}", f'"n":{NUMBER}') == {form}
    body = (
        f'{{"event_id":"e","device_id":"{name}","timestamp":"2026-02-01T10:00:00Z",'
        f'"tags":["{name}"],"metrics":{{"{name}":{sent}}}}}'
    )
    assert (await http.post("/v1/events", content=body, headers=json)).is_success
    found = [item.body.decode() for item in await read_feed(tables, fed) if item.kind == "alert"]
    (alert,) = found
    assert set(re.findall(f'"(?:{name}|value|threshold)": ?{NUMBER}', alert)) == {form}
    stats = "count,sum,avg,min,max,first,last,p50"
    member = f'"(?:sum|avg|min|max|first|last|p50)": ?{NUMBER}'
    aggregate = f"/v1/metrics/aggregate?metric={name}&stats={stats}&interval=1h&{DAY}"
    for _ in range(2):  # From events, then from rollups.
        assert await forms(http, aggregate, member) == {form}
        assert await forms(http, f"{aggregate}&device_id={name}&fill=linear", member) == {form}
        assert await forms(http, f"/devices/{name}/summary?date=2026-02-01", member) == {form}
        latest = f'"value" ?: ?{NUMBER}'
        assert await forms(http, f"/v1/devices/{name}/latest", latest) == {form}
        await roll(tables)
    metric = f'"{name}": ?{NUMBER}'
    points = "start_time=2026-02-01T00:00:00Z&end_time=2026-02-02T00:00:00Z"
    for path in (
        f"/v1/devices/{name}/events",
        f"/v1/search?tag={name}",
        f"/devices/{name}/metrics?{points}",
        f"/v1/export?format=ndjson&device_id={name}",
    ):
        assert await forms(http, path, metric) == {form}
    export = f"/v1/export?format=csv&device_id={name}"
    assert await forms(http, export, f",{name},{NUMBER},") == {form}
