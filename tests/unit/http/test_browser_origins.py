"""Foreign pages are refused while authentication is off; CORS_ORIGINS names the exceptions."""

import json
from typing import Any, cast

import pytest
from litestar.types import Message, Receive, Scope, Send

from api.middleware.browser_origins import browser_origins

OURS, NAMED = "http://127.0.0.1:8000", "https://dashboard.example"


async def response(
    method: str = "GET",
    path: str = "/v1/devices",
    *,
    refuse_others: bool = True,
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served", "more_body": False})

    async def receive() -> Any:
        raise AssertionError("The guard reads no body.")

    async def send(message: Message) -> None:
        sent.append(message)

    given = {"host": "127.0.0.1:8000"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    scope = cast(
        "Scope",
        {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        },
    )
    guard = browser_origins([NAMED], refuse_others=refuse_others, pages=("/", "/docs"))
    await guard(app)(scope, receive, send)
    start, body = cast("Any", sent[0]), cast("Any", sent[1])
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    assert len(found) == len(start["headers"]), "No header is sent twice."
    return start["status"], found, body["body"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": OURS},
        {"origin": OURS.upper()},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
    ],
)
async def test_programs_and_our_own_pages_are_served(headers: dict[str, Any]) -> None:
    assert (await response("POST", **headers))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": f"{OURS}.evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},
        {"origin": "https://dashboard.example.evil"},
    ],
)
async def test_foreign_pages_are_refused_with_a_problem(headers: dict[str, Any]) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        status, found, body = await response(method, **headers)
        assert status == 403
        assert found["content-type"] == "application/problem+json"
        assert "CORS_ORIGINS" in json.loads(body)["detail"]
        assert "access-control-allow-origin" not in found
    assert (await response(refuse_others=False, **headers))[0] == 200


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_a_link_on_another_site_may_lead_to_a_page(path: str) -> None:
    headers: dict[str, Any] = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert (await response(path=path, **headers))[0] == 200
    assert (await response("POST", path, **headers))[0] == 403
    assert (await response(path=path, sec_fetch_dest="document", **headers))[0] == 200
    for frame in ("iframe", "frame", "embed", "object"):
        assert (await response(path=path, sec_fetch_dest=frame, **headers))[0] == 403, frame


async def test_a_named_origin_may_read_the_answer_and_its_headers() -> None:
    status, found, body = await response(origin=NAMED, sec_fetch_site="cross-site")
    assert (status, body) == (200, b"served")
    assert found["access-control-allow-origin"] == NAMED
    assert found["vary"] == "Origin"
    assert found["access-control-expose-headers"] == "Link, Retry-After, X-Interval"


async def test_a_preflight_of_a_named_origin_is_answered_without_the_application() -> None:
    status, found, body = await response(
        "OPTIONS",
        origin=NAMED,
        access_control_request_method="PUT",
        access_control_request_headers="content-type",
    )
    assert (status, body) == (204, b"")
    assert "PUT" in found["access-control-allow-methods"]
    assert found["access-control-allow-headers"] == "content-type"
    assert found["access-control-allow-origin"] == NAMED
