"""Every route of the OpenAPI document with every kind of credential, against docs/security.md."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from schema.access.secrets import CredentialKind, make_secret
from tests.support.http.access import ORIGIN, Guarded, bearer

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Who may do what, written here once more: the code must not check itself.
EVERYBODY = {
    "GET /live", "GET /health", "GET /v1/info", "POST /v1/session", "DELETE /v1/session",
}  # fmt: skip
POSTS = {"POST /v1/events", "POST /v1/events/batch", "POST /telemetry"}
KINDS = ("stranger", "wrong", "device", "ingest", "read", "metrics", "admin")
REFUSED = {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}
NUMBER = {"rejected_id", "incident_id", "silence_id"}  # Path parameters that are numbers.
FILES = ["/", "/favicon.ico", "/docs", "/openapi.json", "/asyncapi", "/docs-assets/swagger-ui.css"]


def may(who: str, operation: str) -> bool:
    if who == "wrong":
        return False
    if who == "admin" or operation in EVERYBODY:
        return True
    if operation in POSTS:
        return who in {"device", "ingest"}
    if operation == "GET /metrics":
        return who == "metrics"
    return who == "read" and operation.startswith("GET ")


def headers(api: Guarded, who: str) -> dict[str, str]:
    if who == "wrong":
        api.from_elsewhere()  # Wrong ones from one address are soon answered 429.
        return bearer(make_secret(CredentialKind.KEY))
    return {} if who == "stranger" else api.headers(who)


async def operations(api: Guarded) -> Iterator[tuple[str, str, str]]:
    """The name of each, its method and a path."""
    document: dict[str, Any] = (await api.http.get("/openapi.json")).json()

    def filled(found: re.Match[str]) -> str:
        return "1" if found[1] in NUMBER else "x1"

    return (
        (f"{method.upper()} {path}", method.upper(), re.sub(r"\{(\w+)\}", filled, path))
        for path, methods in document["paths"].items()
        for method in methods
    )


async def status(api: Guarded, sent: dict[str, str], method: str, path: str) -> int:
    if path.endswith(("/stream", "/v1/live")):
        method = "HEAD"  # A stream does not end.
    return (await api.http.request(method, path, headers=sent, json={})).status_code


@pytest.mark.parametrize("who", KINDS)
async def test_each_credential_may_do_what_the_table_says_and_nothing_else(
    api: Guarded, who: str
) -> None:
    wrong = []
    for operation, method, path in await operations(api):
        code = await status(api, headers(api, who), method, path)
        if (code not in REFUSED) is not may(who, operation):
            wrong.append((operation, code))
    assert wrong == []


async def test_strangers_get_401_with_a_challenge_and_others_403_that_names_the_scope(
    api: Guarded,
) -> None:
    stranger = await api.http.get("/v1/devices")
    assert stranger.status_code == 401
    assert stranger.headers["www-authenticate"] == 'Bearer realm="voltwire"'
    assert stranger.headers["content-type"] == "application/problem+json"
    reader = await api.http.delete("/v1/devices/x", headers=api.headers("read"))
    assert (reader.status_code, reader.json()["detail"]) == (
        403, "This needs a key with the scope admin.",
    )  # fmt: skip
    device = await api.http.get("/v1/devices", headers=api.headers("device"))
    assert device.json()["detail"] == "This needs a key with the scope read."
    post = await api.http.post("/v1/events", headers=api.headers("read"), json={})
    assert "scope ingest, or the secret of a device" in post.json()["detail"]


async def test_head_and_options_need_what_get_needs(api: Guarded) -> None:
    for operation, method, path in await operations(api):
        if method != "GET" or operation in EVERYBODY:
            continue
        for other in ("HEAD", "OPTIONS"):
            assert (await api.http.request(other, path)).status_code == 401, (other, path)


async def test_the_pages_and_their_files_are_for_everybody(api: Guarded) -> None:
    for path in FILES:
        assert (await api.http.get(path)).status_code == 200, path


async def test_strangers_do_not_learn_the_address_of_the_broker(api: Guarded) -> None:
    assert "servers" not in (await api.http.get("/asyncapi")).json()
    document = (await api.http.get("/asyncapi", headers=api.headers("read"))).json()
    assert document["servers"]["broker"]["host"] == "127.0.0.1:1883"


async def test_a_session_may_do_what_its_key_may(api: Guarded) -> None:
    begun = await api.http.post("/v1/session", json={"key": api.secrets["read"]})
    assert begun.status_code == 201
    wrong = []
    for operation, method, path in await operations(api):
        if operation == "DELETE /v1/session":
            continue
        code = await status(api, {"Origin": ORIGIN}, method, path)
        if (code not in REFUSED) is not may("read", operation):
            wrong.append((operation, code))
    assert wrong == []


async def test_the_document_says_what_each_operation_needs(api: Guarded) -> None:
    document = (await api.http.get("/openapi.json")).json()
    assert document["components"]["securitySchemes"]["secret"]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            name = f"{method.upper()} {path}"
            required = operation["security"]
            assert (required == [{}]) is (name in EVERYBODY), name
            scopes = {scope for each in required for named in each.values() for scope in named}
            able = {who for who in ("ingest", "read", "metrics") if may(who, name)}
            assert scopes - {"admin"} == (set() if name in EVERYBODY else able), name


async def test_strangers_see_the_status_of_a_role_and_nothing_else(api: Guarded) -> None:
    assert set((await api.http.get("/health")).json()) == {"status"}
    assert (await api.http.get("/v1/info")).json() == {"authentication": True}
    for who in ("device", "ingest", "metrics"):
        shown = await api.http.get("/health", headers=api.headers(who))
        assert set(shown.json()) == {"status"}, who
    for who in ("read", "admin"):
        shown = await api.http.get("/health", headers=api.headers(who))
        assert set(shown.json()) == {"status", "version", "checks"}, who
    info = (await api.http.get("/v1/info", headers=api.headers("read"))).json()
    assert info["http_url"] == ORIGIN
    assert info["mqtt_url"] == "mqtt://127.0.0.1:1883"
    assert set(info) > {"version", "server_time", "retention_days", "rejected_days"}
    assert (info["key"], info["scopes"]) == ("read", ["read"])
