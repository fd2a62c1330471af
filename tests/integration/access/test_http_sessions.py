"""Sessions of browsers: a cookie that stands for a key, and that no other site can use."""

import pytest

from schema.access.audit import COMMAND
from schema.access.credentials import Scope, create, revoke
from schema.access.secrets import CredentialKind, digest, make_secret
from schema.database import Connection
from tests.support.http.access import (
    ORIGIN,
    Guarded,
    bearer,
    begin_session,
    guarded_api,
    until_status,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_session_is_a_cookie_that_no_script_reads_and_no_other_site_sends(
    api: Guarded,
) -> None:
    cookie = (await begin_session(api)).headers["set-cookie"]
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
        "httponly", "max-age=43200", "path=/", "samesite=strict",
    }  # fmt: skip
    assert api.secrets["admin"] not in cookie
    assert (await api.http.get("/v1/keys")).status_code == 200


async def test_beyond_loopback_the_cookie_is_sent_over_tls_alone(
    database: tuple[str, dict[str, str]],
) -> None:
    async with guarded_api(*database, http_host="0.0.0.0") as api:
        cookie = (await begin_session(api)).headers["set-cookie"]
    assert cookie.startswith("__Host-voltwire_session=")
    assert "secure" in cookie.lower()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"Origin": ORIGIN}, 201),
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}, 201),
        ({}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8001"}, 403),
        ({"Origin": "http://127.0.0.1:8000.evil.example"}, 403),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
    ],
)
async def test_a_change_with_a_cookie_needs_a_page_of_this_server(
    api: Guarded, sent: dict[str, str], code: int
) -> None:
    await begin_session(api)
    rule = {"metric": "temp", "op": ">", "threshold": 30}
    assert (await api.http.post("/v1/alerts", json=rule, headers=sent)).status_code == code


async def test_another_site_cannot_log_a_browser_in_with_a_key_of_its_own(api: Guarded) -> None:
    for sent in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        response = await begin_session(api, **sent)
        assert response.status_code == 403
        assert "set-cookie" not in response.headers


async def test_a_session_gets_a_token_of_its_own_whatever_cookie_the_browser_had(
    api: Guarded,
) -> None:
    api.http.cookies.set("voltwire_session", "chosen-by-an-attacker", domain="127.0.0.1")
    await begin_session(api)
    tokens = [each.value for each in api.http.cookies.jar if each.name == "voltwire_session"]
    api.http.cookies.clear()
    chosen = {"Cookie": "voltwire_session=chosen-by-an-attacker"}
    assert (await api.http.get("/v1/devices", headers=chosen)).status_code == 401
    assert any(
        [
            (
                await api.http.get("/v1/devices", headers={"Cookie": f"voltwire_session={token}"})
            ).is_success
            for token in tokens
        ]
    )


async def test_a_session_ends_when_it_is_ended_or_its_key_revoked(
    api: Guarded, tables: Connection
) -> None:
    cookie = {"Cookie": (await begin_session(api)).headers["set-cookie"].partition(";")[0]}
    api.http.cookies.clear()
    ended = await api.http.delete("/v1/session", headers=cookie | {"Origin": ORIGIN})
    assert ended.status_code == 204
    assert "max-age=0" in ended.headers["set-cookie"].lower()
    assert (await api.http.get("/v1/devices", headers=cookie)).status_code == 401
    secret = await create(tables, COMMAND, CredentialKind.KEY, "short", [Scope.READ])
    assert secret is not None
    await until_status(api, bearer(secret), 200)
    begun = await api.http.post("/v1/session", json={"key": secret})
    cookie = {"Cookie": begun.headers["set-cookie"].partition(";")[0]}
    api.http.cookies.clear()
    assert (await api.http.get("/v1/devices", headers=cookie)).status_code == 200
    await revoke(tables, COMMAND, ["short"], CredentialKind.KEY)
    await until_status(api, cookie, 401)
    token = cookie["Cookie"].partition("=")[2]
    kept = await tables.fetch("select digest from browser_session")
    assert digest(token.encode()) not in {row["digest"] for row in kept}


async def test_a_wrong_key_is_told_from_a_mistyped_one(api: Guarded) -> None:
    unknown = make_secret(CredentialKind.KEY)
    for key, says in ((unknown, "no such key here"), (unknown[:-1], "mistyped")):
        refused = await api.http.post("/v1/session", json={"key": key})
        assert refused.status_code == 401
        assert says in refused.json()["detail"]


async def test_a_header_goes_before_a_cookie(api: Guarded) -> None:
    await begin_session(api)
    assert (await api.http.get("/v1/keys", headers=bearer("wrong"))).status_code == 401
    assert (await api.http.get("/v1/keys", headers=api.headers("device"))).status_code == 403


async def test_the_secret_of_a_device_begins_no_session(api: Guarded) -> None:
    assert (await begin_session(api, "device")).status_code == 403
