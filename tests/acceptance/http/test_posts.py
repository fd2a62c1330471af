"""Posts of events from outside, in every form that HTTP allows; ordinary ones take the fast path."""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.acceptance.conftest import base_url
from tests.acceptance.http.test_http import assert_problem, event
from tests.support.http import plain_http
from tests.support.processes.services import Process

JSON = {"Content-Type": "application/json"}
SINGLE = ["/v1/events", "/telemetry"]
ALL = [*SINGLE, "/v1/events/batch"]


@pytest.fixture
def http(up: Process) -> Iterator[httpx.Client]:
    with plain_http.Client(base_url=base_url(up), timeout=30) as client:
        yield client


def body_of(path: str, **changes: Any) -> bytes:
    """An event of a device that no other test uses, so no rate limit applies."""
    one = event(device_id=f"p-{uuid4().hex}") | changes
    return json.dumps([one] if path.endswith("batch") else one).encode()


def chunked(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


def status_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    document = response.json()
    return str(document[0]["status"] if isinstance(document, list) else document["status"])


@pytest.mark.parametrize("path", ALL)
def test_a_post_needs_no_content_length(http: httpx.Client, path: str) -> None:
    stored = "stored" if path.endswith("batch") else "ok"
    body = body_of(path)
    assert status_of(http.post(path, content=body, headers=JSON)) == stored
    assert status_of(http.post(path, content=chunked(body), headers=JSON)) == "duplicate"
    other = body_of(path)
    assert status_of(http.post(path, content=chunked(other), headers=JSON)) == stored
    assert status_of(http.post(path, content=other, headers=JSON)) == "duplicate"
    charset = {"Content-Type": "application/json; charset=utf-8"}
    assert status_of(http.post(path, content=other, headers=charset)) == "duplicate"


@pytest.mark.parametrize("path", ALL)
def test_a_body_that_is_too_large_is_413_with_or_without_a_content_length(
    http: httpx.Client, path: str
) -> None:
    large = body_of(path, padding="y" * (8_400_000 if path.endswith("batch") else 263_000))
    assert_problem(http.post(path, content=large, headers=JSON), 413)
    assert_problem(http.post(path, content=chunked(large), headers=JSON), 413)


@pytest.mark.parametrize("path", ALL)
def test_a_refusal_is_a_problem_with_or_without_a_content_length(
    http: httpx.Client, path: str
) -> None:
    for text, reason in ((b"", "malformed_json"), (b"{", "malformed_json"), (b"\xff", None)):
        for content in (text, chunked(text)):
            problem = assert_problem(http.post(path, content=content, headers=JSON), 422)
            assert problem["reason"] == (reason or "malformed_json")
    body = body_of(path)
    assert_problem(http.post(f"{path}?dry=1", content=body, headers=JSON), 422)
    assert_problem(http.post(path, content=body), 415)
    assert_problem(http.post(path, content=body, headers={"Content-Type": "text/plain"}), 415)
    assert_problem(http.post(path, content=body, headers=JSON | {"Content-Encoding": "gzip"}), 415)
    assert_problem(http.post(path, content=body, headers=JSON | {"Host": "evil.example"}), 421)
    assert status_of(http.post(path, content=body, headers=JSON)) in {"ok", "stored"}


@pytest.mark.parametrize("path", ALL)
def test_other_methods_are_405_and_options_names_the_right_one(
    http: httpx.Client, path: str
) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        response = http.request(method, path)
        assert_problem(response, 405)
        assert "POST" in response.headers["allow"]
    assert http.head(path).status_code == 405
    response = http.options(path)
    assert (response.status_code, response.headers["allow"]) == (204, "OPTIONS, POST")


def test_the_document_describes_posts(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    for path in ALL:
        operation = paths[path]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert schema["type"] == ("array" if path.endswith("batch") else "object")
        responses = {"200", "401", "403", "413", "415", "421", "422", "429", "503"}
        assert set(operation["responses"]) == responses


def counts(http: httpx.Client) -> dict[tuple[str, str], int]:
    """Answers by route and status."""
    pattern = (
        r"(?m)^voltwire_http_request_duration_seconds_count"
        r'\{method="POST",route="(.*)",status="(.*)"\} (\S+)$'
    )
    found = re.findall(pattern, http.get("/metrics").text)
    return {(route, status): int(float(count)) for route, status, count in found}


@pytest.mark.parametrize("path", ALL)
def test_every_answer_is_counted_under_its_route(http: httpx.Client, path: str) -> None:
    before = counts(http)
    http.post(path, content=body_of(path), headers=JSON)
    http.post(path, content=chunked(body_of(path)), headers=JSON)
    http.post(path, content=b"{", headers=JSON)
    http.post(path, content=b"{")
    after = counts(http)
    grown = {key: count - before.get(key, 0) for key, count in after.items()}
    assert {key: count for key, count in grown.items() if count} == {
        (path, "200"): 2,
        (path, "422"): 1,
        (path, "415"): 1,
    }


def raw(up: Process) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(up.settings["HTTP_PORT"])), timeout=30)


def request(body: bytes, length: int | None = None) -> bytes:
    head = "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {length or len(body)}\r\n\r\n".encode() + body


def read_until(connection: socket.socket, count: int, what: bytes) -> bytes:
    seen = b""
    while seen.count(what) < count:
        data = connection.recv(65536)
        assert data, f"closed after {seen!r}"
        seen += data
    return seen


def test_posts_in_one_piece_are_answered_in_order(up: Process) -> None:
    good, bad = body_of("/v1/events"), b"{"
    with closing(raw(up)) as connection:
        connection.sendall(request(good) + request(bad) + request(good))
        seen = read_until(connection, 3, b"\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", seen) == [b"200", b"422", b"200"]


def test_a_post_byte_by_byte_is_one_post(up: Process) -> None:
    with closing(raw(up)) as connection:
        for byte in request(body_of("/v1/events")):
            connection.sendall(bytes([byte]))
        assert b"200 OK" in read_until(connection, 1, b'{"status":"ok"}')


def test_a_client_that_disconnects_harms_no_other_and_its_complete_posts_stay(
    up: Process, http: httpx.Client
) -> None:
    device_id = f"p-{uuid4().hex}"
    whole, half = body_of("/v1/events", device_id=device_id), body_of("/v1/events")
    with closing(raw(up)) as connection:
        connection.sendall(request(half, length=len(half) + 1))
    with closing(raw(up)) as connection:
        connection.sendall(request(whole))
    deadline = time.monotonic() + 30
    while http.get(f"/v1/devices/{device_id}/events").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(http.get(f"/v1/devices/{device_id}/events").json()) == 1
    assert http.get(f"/v1/devices/{json.loads(half)['device_id']}/events").status_code == 404
    assert status_of(http.post("/v1/events", content=whole, headers=JSON)) == "duplicate"
    assert "failed unexpectedly" not in up.log.read_text()


def test_chunked_posts_that_are_cut_off_leave_no_line_in_the_log(
    up: Process, http: httpx.Client
) -> None:
    before = len(up.log.read_text().splitlines())
    for path in [*ALL, "/v1/devices", "/v1/devices/import"] * 4:
        with closing(raw(up)) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(
                f'{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{"eve\r\n40\r\nnt'.encode()
            )
    assert http.get("/live").status_code == 200
    assert up.log.read_text().splitlines()[before:] == []
