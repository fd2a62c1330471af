"""The HTTP API from outside: limits, errors as problem details, pages, streams."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.acceptance.conftest import base_url
from tests.support.http import plain_http
from tests.support.processes.services import Process


@pytest.fixture
def http(up: Process) -> Iterator[httpx.Client]:
    with plain_http.Client(base_url=base_url(up), timeout=30) as client:
        yield client


def event(**changes: Any) -> dict[str, Any]:
    """Of a device that no other test uses, so no rate limit applies."""
    device_id = f"d-{uuid4().hex}"
    return {"event_id": uuid4().hex, "device_id": device_id, "metrics": {"temp": 20}} | changes


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["detail"]
    return problem


def test_a_rejected_event_is_422_with_its_reason(http: httpx.Client) -> None:
    problem = assert_problem(http.post("/v1/events", json=event(metrics={"soc_percent": 101})), 422)
    assert problem["reason"] == "out_of_range"
    assert "battery" in problem["detail"]
    assert assert_problem(http.post("/telemetry", json=[event()]), 422)["reason"] == "not_an_object"
    assert (
        assert_problem(http.post("/v1/events/batch", json=event()), 422)["reason"] == "not_an_array"
    )
    assert assert_problem(http.post("/v1/events/batch", json=[]), 422)["reason"] == "no_items"
    text = http.post("/v1/events", content=b"{", headers={"Content-Type": "application/json"})
    assert assert_problem(text, 422)["reason"] == "malformed_json"


def test_only_json_up_to_a_size_is_accepted(http: httpx.Client) -> None:
    assert_problem(http.post("/v1/events", content=json.dumps(event())), 415)
    assert_problem(http.post("/v1/events", data={"device_id": "a"}), 415)
    assert_problem(http.post("/v1/alerts", content=b"{}"), 415)
    large = event(tags=["x" * 100], padding="y" * 300_000)
    assert_problem(http.post("/v1/events", json=large), 413)
    (verdict,) = http.post("/v1/events/batch", json=[large]).json()
    assert (verdict["status"], verdict["reason"]) == ("rejected", "too_large")
    assert_problem(http.post("/v1/events/batch", json=["x" * 9_000_000]), 413)


def test_the_eleventh_post_of_a_device_within_a_second_is_429(http: httpx.Client) -> None:
    started = time.monotonic()
    responses = [http.post("/v1/events", json=event(device_id="fast")) for _ in range(11)]
    if time.monotonic() - started < 1:
        assert [response.status_code for response in responses[:10]] == [200] * 10
        limited = responses[-1]
        assert_problem(limited, 429)
        assert int(limited.headers["Retry-After"]) >= 1
    assert http.post("/v1/events", json=event(device_id="other")).status_code == 200
    batch = [event(device_id="fast") for _ in range(50)]
    assert {item["status"] for item in http.post("/v1/events/batch", json=batch).json()} == {
        "stored"
    }
    while (response := http.post("/telemetry", json=event(device_id="fast"))).status_code == 429:
        time.sleep(0.1)
    assert response.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/devices/nobody/events",
        "/v1/devices/nobody",
        "/v1/devices/nobody/presence",
        "/devices/nobody/summary?date=2026-01-01",
        "/devices/nobody/metrics?start_time=2026-01-01T00:00:00Z&end_time=2026-01-02T00:00:00Z",
        "/v1/alerts/nothing",
        "/nowhere",
    ],
)
def test_an_unknown_path_or_resource_is_404(http: httpx.Client, path: str) -> None:
    assert_problem(http.get(path), 404)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/devices/a/events?limit=0",
        "/v1/devices/a/events?limit=1001",
        "/v1/devices/a/events?limit=x",
        "/v1/devices/a/events?from_time=yesterday",
        "/v1/devices/a/events?from_time=2026-01-02T00:00:00Z&to_time=2026-01-01T00:00:00Z",
        "/v1/devices/a/events?from=2026-01-02T00:00:00Z",
        "/v1/devices/a/events?cursor=abc",
        "/devices/a/metrics?start_time=2026-01-01T00:00:00Z",
        "/devices/a/metrics?start_time=2026-01-01T00:00:00Z&end_time=2026-01-09T00:00:01Z",
        "/devices/a/summary",
        "/devices/a/summary?date=2026-02-30",
        "/devices/a/summary?date=2026-02-01&tz=Mars/Olympus",
        "/v1/metrics/aggregate?metric=temp",
        "/v1/metrics/aggregate?metric=temp&from_time=2026-01-01T00:00:00&to_time=2026-01-02T00:00:00&interval=0m",
        "/v1/metrics/aggregate?metric=temp&from_time=2026-01-01T00:00:00&to_time=2026-01-02T00:00:00&interval=fast",
        "/v1/search",
        "/v1/search?tag=",
        "/v1/devices?state=gone",
        "/health?verbose=1",
    ],
)
def test_an_invalid_query_is_422(http: httpx.Client, path: str) -> None:
    http.post("/v1/events/batch", json=[event(device_id="a")])
    assert_problem(http.get(path), 422)


def test_a_thousand_devices_fit_into_a_query_up_to_the_limit_of_the_head(
    http: httpx.Client,
) -> None:
    query = "metric=x&from_time=2026-01-01T00:00:00Z&to_time=2026-01-02T00:00:00Z"
    for length, status in ((40, 200), (60, 414)):
        devices = "".join(f"&device_id={n:0{length}}" for n in range(1000))
        # httpx sends no such long address.
        with closing(
            HTTPConnection(http.base_url.host, http.base_url.port, timeout=30)
        ) as connection:
            connection.request("GET", f"/v1/metrics/aggregate?{query}{devices}")
            response = connection.getresponse()
            assert response.status == status
            kind = "application/json" if status == httpx.codes.OK else "application/problem+json"
            assert response.getheader("Content-Type") == kind


def test_nul_anywhere_is_the_callers_mistake(http: httpx.Client) -> None:
    for path in ("/v1/devices/%00/events", "/v1/devices/a%00", "/v1/alerts/%00", "/docs/%00"):
        response = http.get(path)
        assert response.status_code == 404, path
        assert response.json()["detail"] == "Nothing has a NUL (%00) in its path."
    for path in ("/v1/devices?q=%00", "/v1/search?tag=%00"):
        assert http.get(path).status_code == 422, path


def test_pages_show_everything_once_while_new_events_arrive(http: httpx.Client) -> None:
    ids = [f"p{n:03}" for n in range(60)]
    instant = "2026-03-01T10:00:00Z"
    batch = [
        event(event_id=name, device_id="pages", timestamp=instant, tags=["paged"]) for name in ids
    ]
    http.post("/v1/events/batch", json=batch)
    for path in ("/v1/devices/pages/events?limit=7", "/v1/search?tag=paged&limit=7"):
        seen: list[str] = []
        page: str | None = path
        while page:
            response = http.get(page)
            seen += [item["event_id"] for item in response.json() if item["event_id"] in ids]
            page = response.links.get("next", {}).get("url")
            http.post("/v1/events/batch", json=[event(device_id="pages", tags=["paged"])])
        assert seen == sorted(ids, reverse=True)


def test_a_cursor_belongs_to_its_query(http: httpx.Client) -> None:
    http.post("/v1/events/batch", json=[event(device_id=name) for name in "cd" for _ in range(3)])
    link = http.get("/v1/devices/c/events?limit=1").links["next"]["url"]
    assert http.get(link).status_code == 200
    assert_problem(http.get(link.replace("/c/", "/d/")), 422)


def test_a_plus_that_became_a_space_is_understood(http: httpx.Client) -> None:
    http.post("/v1/events", json=event(device_id="plus", timestamp="2026-04-01T10:30:00Z"))
    path = "/v1/devices/plus/events?from_time=2026-04-01T12:00:00+02:00&to_time=2026-04-01T13:00:00+02:00"
    assert len(http.get(path).json()) == 1


def test_a_summary_of_an_empty_day_shows_the_metrics_of_the_profile_with_zeros(
    http: httpx.Client,
) -> None:
    http.post("/v1/events", json=event(device_id="s", timestamp="2026-04-01T10:30:00Z"))
    day = http.get("/devices/s/summary?date=2026-04-02").json()
    assert list(day["metrics"]) == ["current_a", "soc_percent", "temp_c", "voltage_v"]
    assert day["metrics"]["temp_c"] == {"count": 0, "min": 0, "max": 0, "avg": 0}


def test_a_day_is_a_day_of_its_time_zone_also_when_clocks_change(http: httpx.Client) -> None:
    hours = [f"2026-03-{28 + h // 24:02}T{h % 24:02}:30:00Z" for h in range(48)]
    http.post("/v1/events/batch", json=[event(device_id="dst", timestamp=at) for at in hours])
    day = http.get("/devices/dst/summary?date=2026-03-29&tz=Europe/Berlin").json()
    assert day["metrics"]["temp"]["count"] == 23
    assert http.get("/devices/dst/summary?date=2026-03-29").json()["metrics"]["temp"]["count"] == 24


def test_numbers_are_written_as_they_are(http: httpx.Client) -> None:
    values = {"one": 1.0, "half": 0.5, "big": 9_007_199_254_740_991, "tiny": 1e-300, "neg": -0.0}
    http.post("/v1/events", json=event(device_id="numbers", metrics=values))
    text = http.get("/v1/devices/numbers/events").text
    shown = json.loads(text)[0]["metrics"]
    assert shown == values
    assert '"one": 1,' in text or '"one": 1}' in text or '"one":1' in text


def test_huge_values_do_not_break_sums(http: httpx.Client) -> None:
    times = ["2026-05-01T00:00:01Z", "2026-05-01T00:00:02Z"]
    http.post(
        "/v1/events/batch",
        json=[event(device_id="huge", timestamp=at, metrics={"x": 1.7e308}) for at in times],
    )
    query = "metric=x&device_id=huge&from_time=2026-05-01T00:00:00Z&to_time=2026-05-02T00:00:00Z&interval=1h"
    (row,) = http.get(f"/v1/metrics/aggregate?{query}").json()
    assert (row["count"], row["sum"], row["avg"]) == (2, None, 1.7e308)
    assert (
        http.get("/devices/huge/summary?date=2026-05-01").json()["metrics"]["x"]["avg"] == 1.7e308
    )


def test_an_aggregate_of_too_many_rows_is_refused(http: httpx.Client) -> None:
    response = http.get(
        "/v1/metrics/aggregate?metric=none&from_time=2026-01-01T00:00:00Z&to_time=2026-01-02T00:00:00Z"
    )
    assert response.json() == []


def test_a_stream_resumes_after_last_event_id_without_gap_or_repeat(
    http: httpx.Client, up: Process
) -> None:
    rule = {"device_id": "sse", "metric": "temp", "op": ">", "threshold": 30}
    assert http.post("/v1/alerts", json=rule).status_code == 201
    with plain_http.stream(
        "GET", f"{base_url(up)}/v1/alerts/stream?device_id=sse", timeout=30
    ) as stream:
        http.post(
            "/v1/events/batch",
            json=[event(device_id="sse", metrics={"temp": 40 + n}) for n in range(3)],
        )
        first = take_events(stream, 3)
    http.post("/v1/events/batch", json=[event(device_id="sse", metrics={"temp": 50})])
    http.post("/v1/events/batch", json=[event(device_id="sse", metrics={"temp": 10})])
    headers = {"Last-Event-ID": str(first[1]["id"])}
    url = f"{base_url(up)}/v1/alerts/stream?device_id=sse"
    with plain_http.stream("GET", url, headers=headers, timeout=30) as stream:
        rest = take_events(stream, 3)
    numbers = [item["id"] for item in first + rest]
    assert numbers[2] == numbers[3], "what came after the last id that was seen"
    assert rest[1]["data"]["value"] == 50
    assert (rest[2]["event"], rest[2]["data"]["state"]) == ("resolved", "resolved")
    assert_problem(plain_http.get(url, headers={"Last-Event-ID": "x"}), 422)


def test_the_stream_of_a_page_says_at_once_that_it_is_open(up: Process) -> None:
    url = f"{base_url(up)}/v1/live?topics=presence,alerts"
    with plain_http.stream("GET", url, timeout=30) as stream:
        assert next(stream.iter_lines()) == ": open"  # Without it a comment would come after 15 s.


def test_no_text_of_a_stream_can_hold_a_line_break(http: httpx.Client) -> None:
    forged = "x\r\n\r\nevent: resolved\ndata: {}\n\n"
    rule = {"device_id": "forge", "metric": "temp", "op": ">", "threshold": 30}
    for field in ("name", "device_id", "metric"):
        assert_problem(http.post("/v1/alerts", json=rule | {field: forged}), 422)
    for wrong in ({"event_id": forged}, {"device_id": forged}, {"metrics": {forged: 1}}):
        assert_problem(http.post("/v1/events", json=event() | wrong), 422)


def take_events(stream: httpx.Response, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    current: dict[str, Any] = {}
    for line in stream.iter_lines():
        name, _, value = line.partition(": ")
        if name in {"id", "event", "data"}:
            current[name] = json.loads(value) if name in {"id", "data"} else value
        elif not line and current:
            found.append(current)
            current = {}
            if len(found) == count:
                return found
    raise AssertionError(f"the stream ended after {found}")


def test_a_foreign_host_name_is_refused_without_authentication(http: httpx.Client) -> None:
    assert_problem(http.get("/health", headers={"Host": "evil.example"}), 421)
    assert http.get("/health", headers={"Host": "localhost:8000"}).status_code == 200
    assert http.get("/health", headers={"Host": "[::1]:8000"}).status_code == 200


def test_a_bad_rule_is_422_and_names_the_field(http: httpx.Client) -> None:
    for change in (
        {"op": "~"},
        {"threshold": None},
        {"clear_threshold": 33},
        {"extra": 1},
        {"metric": "a b"},
    ):
        rule = {"metric": "temp", "op": ">", "threshold": 32} | change
        problem = assert_problem(http.post("/v1/alerts", json=rule), 422)
        assert problem["errors"]


def test_the_mqtt_side_is_a_page_for_browsers_and_a_document_for_programs(
    http: httpx.Client,
) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    page = http.get("/asyncapi", headers=browser)
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "devices/{device_id}/telemetry" in page.text
    for response in (http.get("/asyncapi"), http.get("/asyncapi?format=json", headers=browser)):
        assert response.json()["asyncapi"] == "3.0.0"
    assert_problem(http.get("/asyncapi?format=yaml"), 422)


def test_the_reference_needs_no_internet(http: httpx.Client) -> None:
    page, own = http.get("/docs").text, http.get("/docs").headers
    assert own["content-security-policy"] == "frame-ancestors 'none'"
    assert re.findall(r"(?:src|href)\s*=\s*[\"']?\s*(?:https?:)?//", page) == []
    for asset, kind in (
        ("swagger-ui-bundle.js", "javascript"),
        ("swagger-ui.css", "text/css"),
        ("swagger-ui-standalone-preset.js", "javascript"),
    ):
        assert f"/docs-assets/{asset}" in page
        answer = http.get(f"/docs-assets/{asset}")
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
    for other in ("%00", "x" * 300, "../../pyproject.toml", "%2e%2e/index.html", "%2fetc%2fpasswd"):
        assert_problem(http.get(f"/docs-assets/{other}"), 404)
        assert_problem(http.get(f"/docs/{other}"), 404)
    document = http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert "/v1/events/batch" in document["paths"]
    text = json.dumps(document)
    assert "$defs" not in text
    assert "out_of_range" in text
    for target in re.findall(r'"#/([^"]+)"', text):
        found = document
        for step in target.split("/"):
            found = found[step]


def test_live_answers_while_the_process_runs(http: httpx.Client) -> None:
    assert http.get("/live").json() == {"status": "ok"}
