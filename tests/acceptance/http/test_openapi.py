"""The OpenAPI document against the running API: by its own examples, and by schemathesis."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from tests.acceptance.chaos.seeds import LONG, rounds
from tests.acceptance.conftest import base_url
from tests.support.http import plain_http
from tests.support.processes.services import ROOT, Process

EXAMPLES = rounds(short=1, long=6)  # Per operation and kind.
# The long form also goes through every boundary value of every parameter: 1,700 requests.
PHASES = "examples,coverage,fuzzing,stateful" if LONG else "fuzzing,stateful"
SEED = 1


# What must exist is created first, and what others use is deleted last.
ORDER = ("POST", "GET", "PUT", "DELETE")
FIRST = ("POST /v1/alerts", "POST /v1/events/batch")
STREAMS = ("/stream", "/v1/live")  # They do not end, so only their head is asked for.
# A session needs a key, and there are none while authentication is off.
OTHER_STATUS = {"POST /v1/session": {409}}
# What a parameter that is not filled in needs beside it.
COMPANIONS: dict[str, dict[str, Any]] = {
    "GET /v1/metrics/aggregate max_points": {"interval": "auto"},
    "GET /v1/metrics/aggregate tag_prefix": {"group_by": "tag"},
    "GET /v1/metrics/aggregate device_tag_prefix": {"group_by": "device_tag"},
}


class Call(NamedTuple):
    name: str
    method: str
    path: str
    query: dict[str, Any]
    headers: dict[str, str]
    content: bytes | None

    def send(self, http: httpx.Client) -> httpx.Response:
        method = "HEAD" if self.path.endswith(STREAMS) else self.method
        return http.request(
            method, self.path, params=self.query, headers=self.headers, content=self.content
        )


@pytest.fixture(scope="module")
def http(up: Process) -> Iterator[httpx.Client]:
    with plain_http.Client(base_url=base_url(up), timeout=60) as client:
        # So that there is a dead letter.
        client.post("/v1/events", json={"device_id": "deviceA", "metrics": {"soc_percent": 120}})
        yield client


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", path, operation


def first_clicks(document: dict[str, Any]) -> Iterator[Call]:
    """Each operation with what `/docs` fills in, once for each media type of its body."""
    for name, path, operation in operations(document):
        filled = [each for each in operation.get("parameters", []) if "example" in each]
        bodies = operation.get("requestBody", {}).get("content", {None: {}})
        for media_type, body in bodies.items():
            yield _call(name, path, filled, media_type, body.get("example"))


def other_examples(document: dict[str, Any]) -> Iterator[Call]:
    """Each GET with one more parameter. A cursor belongs to its own query."""
    for name, path, operation in operations(document):
        parameters = operation.get("parameters", [])
        filled = [each for each in parameters if "example" in each]
        for each in parameters if name.startswith("GET ") else ():
            if "example" not in each and each["name"] != "cursor":
                more = COMPANIONS.get(f"{name} {each['name']}", {})
                value = {each["name"]: each["schema"]["examples"][0]}
                yield _with(_call(name, path, filled, None, None), each["in"], more | value)


def _call(name: str, path: str, filled: list[Any], media_type: str | None, body: Any) -> Call:
    values = {place: {} for place in ("path", "query", "header")}  # type: dict[str, dict[str, Any]]
    for each in filled:
        values[each["in"]][each["name"]] = each["example"]
    for key, value in values["path"].items():
        path = path.replace(f"{{{key}}}", str(value))
    content = (
        None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    )
    headers = {} if media_type is None else {"Content-Type": media_type}
    return Call(
        name, name.partition(" ")[0], path, values["query"], headers | values["header"], content
    )


def _with(call: Call, place: str, more: dict[str, Any]) -> Call:
    if place == "header":
        return call._replace(headers=call.headers | more)
    return call._replace(query=call.query | more)


def rank(call: Call) -> tuple[bool, int, int]:
    """A device is made before what belongs to it, and deleted after it."""
    depth = call.path.count("/")
    return (
        call.name not in FIRST,
        ORDER.index(call.method),
        -depth if call.method == "DELETE" else depth,
    )


def document(http: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = http.get("/openapi.json").json()
    return found


def test_the_first_click_on_every_operation_succeeds(http: httpx.Client) -> None:
    wrong = []
    for call in sorted(first_clicks(document(http)), key=rank):
        response = call.send(http)
        if response.status_code not in OTHER_STATUS.get(call.name, range(200, 300)):
            wrong.append((call.name, response.status_code, response.text))
    assert wrong == [], wrong


def test_each_of_the_other_examples_is_accepted_too(http: httpx.Client) -> None:
    responses = [(call, call.send(http)) for call in other_examples(document(http))]
    wrong = [
        (call.name, call.query, response.status_code, response.text)
        for call, response in responses
        if response.status_code != httpx.codes.OK
    ]
    assert wrong == [], wrong


@pytest.mark.chaos_short
@pytest.mark.timeout(300)
def test_answers_match_the_openapi_document(up: Process) -> None:
    run = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", f"--config-file={ROOT / 'schemathesis.toml'}", "run",
            # One thread: in Python 3.11 two that compile at a time can fail (python/cpython#106905).
            f"{base_url(up)}/openapi.json", "--workers=1",
            f"--max-examples={EXAMPLES}", f"--seed={SEED}", f"--phases={PHASES}",
            "--no-color", "--warnings=off", "--request-timeout=10", "--generation-database=none",
            "--suppress-health-check=too_slow",  # The machine may be busy.
        ],
        cwd=up.folder,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2000:]
    assert plain_http.get(f"{base_url(up)}/health").json()["status"] == "ok"
