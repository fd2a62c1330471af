"""What an attacker may try over HTTP with no credential, a wrong one, or one that may do less."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest

from api.auth import failed_logins
from schema.access.audit import COMMAND
from schema.access.credentials import Scope, create, revoke
from schema.access.secrets import Kind, digest, make_secret
from schema.database import Connection
from tests.support.access import DEVICE, ORIGIN, Guarded, bearer, guarded_api

WITHIN_S = 30
CUT_S_MAX = 5.0  # The promise of docs/security.md.
EVENT: dict[str, Any] = {"metrics": {"temp": 1}}


# -- Secrets in odd forms. --


@pytest.mark.parametrize(
    "form",
    ["", "{}", "Basic {}", "Bearer", "Bearer ", "bearer:{}", "Bearer {} x", "Bearer {}x", 'Bearer "{}"',
     "Token {}", "Bearer vwk_", "Bearer {}\x00", "Bearer \xff\xfe"],
)  # fmt: skip
async def test_a_secret_in_another_form_is_no_secret(api: Guarded, form: str) -> None:
    api.from_elsewhere()
    value = form.format(api.secrets["admin"]).encode("latin-1")
    answer = await api.http.get("/v1/devices", headers=[(b"authorization", value)])
    assert answer.status_code == 401


async def test_the_scheme_has_no_case_and_spaces_around_a_secret_do_not_count(api: Guarded) -> None:
    for form in ("bearer {}", "BEARER {}", "Bearer   {}  "):
        value = form.format(api.secrets["admin"])
        answer = await api.http.get("/v1/devices", headers={"Authorization": value})
        assert answer.status_code == 200, form


async def test_two_authorization_headers_are_refused_even_if_both_are_right(api: Guarded) -> None:
    right = ("Authorization", f"Bearer {api.secrets['admin']}")
    for other in (right, ("Authorization", "Bearer x")):
        for pair in ([right, other], [other, right]):
            assert (await api.http.get("/v1/devices", headers=pair)).status_code == 401


async def test_a_very_long_secret_is_refused_without_work(api: Guarded) -> None:
    answer = await api.http.get("/v1/devices", headers=bearer("x" * 60_000))
    assert answer.status_code == 401


async def test_every_wrong_secret_gets_the_same_answer(api: Guarded) -> None:
    new = {"name": "old", "scopes": ["admin"]}
    made = await api.http.post("/v1/keys", json=new, headers=api.headers("admin"))
    revoked = made.json()["secret"]
    await api.http.delete("/v1/keys/old", headers=api.headers("admin"))
    admin = api.secrets["admin"]
    almost = admin[:-1] + ("a" if admin[-1] != "a" else "b")
    unknown = make_secret(Kind.KEY)
    answers = [await api.http.get("/v1/devices")]
    answers += [
        await api.http.get("/v1/devices", headers=bearer(each))
        for each in (revoked, almost, unknown)
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert len({tuple(sorted(answer.headers.items())) for answer in answers}) == 1


@pytest.mark.parametrize("name", ["api_key", "key", "access_token", "authorization"])
async def test_a_key_in_the_query_is_no_key(api: Guarded, name: str) -> None:
    answer = await api.http.get("/v1/devices", params={name: api.secrets["admin"]})
    assert answer.status_code == 401


async def test_no_secret_is_in_a_log_an_answer_or_the_audit(
    api: Guarded, tables: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = make_secret(Kind.KEY)
    shown = await api.http.get("/v1/devices", headers=bearer(wrong))
    assert wrong not in shown.text
    await api.http.get("/v1/devices", headers=api.headers("admin"), params={"x": wrong})
    written = await until_in_audit(tables, "login.failed", api)
    captured = capsys.readouterr()
    for secret in (wrong, *api.secrets.values()):
        assert secret not in captured.out + captured.err
        assert secret not in str(written)


# -- The wrong scope. --


async def test_the_body_of_a_refused_post_is_not_read(api: Guarded) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("The body was read.")
        yield b""

    for who, code in (("read", 403), (None, 401)):
        for path in ("/v1/events", "/v1/events/batch", "/v1/devices"):
            sent = {"Content-Type": "application/json", "Content-Length": "100"}
            sent |= {} if who is None else api.headers(who)
            assert (await api.http.post(path, content=never(), headers=sent)).status_code == code


async def test_a_device_posts_its_own_events_and_need_not_name_itself(api: Guarded) -> None:
    sent = api.headers("device")
    for n, event in enumerate((EVENT, EVENT | {"device_id": DEVICE})):
        answer = await api.http.post(
            "/v1/events", json=event | {"event_id": f"own{n}"}, headers=sent
        )
        assert answer.json() == {"status": "ok"}
    found = await api.http.get(f"/v1/devices/{DEVICE}/events", headers=api.headers("read"))
    assert {row["event_id"] for row in found.json()} >= {"own0", "own1"}


async def test_an_event_of_another_device_is_rejected_and_its_neighbours_are_stored(
    api: Guarded,
) -> None:
    foreign = EVENT | {"event_id": "f1", "device_id": "victim"}
    single = await api.http.post("/v1/events", json=foreign, headers=api.headers("device"))
    assert (single.status_code, single.json()["reason"]) == (422, "device_mismatch")
    batch = [EVENT | {"event_id": "n1"}, foreign, EVENT | {"event_id": "n2", "device_id": DEVICE}]
    mixed = await api.http.post("/v1/events/batch", json=batch, headers=api.headers("device"))
    assert [item["status"] for item in mixed.json()] == ["stored", "rejected", "stored"]
    assert mixed.json()[1]["reason"] == "device_mismatch"
    assert (
        await api.http.get("/v1/devices/victim", headers=api.headers("read"))
    ).status_code == 404


async def test_each_item_of_a_large_batch_is_compared(api: Guarded) -> None:
    """Such a batch is decoded in a thread, by other code."""
    padding = {f"metric_{n:03}": n for n in range(40)}
    batch = [{"event_id": f"l{n}", "metrics": padding} for n in range(600)]
    batch[300]["device_id"] = "victim"
    answer = await api.http.post("/v1/events/batch", json=batch, headers=api.headers("device"))
    assert [n for n, item in enumerate(answer.json()) if item["status"] != "stored"] == [300]
    assert answer.json()[300]["reason"] == "device_mismatch"


async def test_no_replay_stores_a_rejected_event_as_another_devices(
    api: Guarded, tables: Connection
) -> None:
    foreign = [EVENT | {"event_id": "r1", "device_id": "victim2"}]
    await api.http.post("/v1/events/batch", json=foreign, headers=api.headers("device"))
    of_device = {"device_id": DEVICE, "reason": "device_mismatch"}
    letters = await api.http.get("/v1/rejected", params=of_device, headers=api.headers("admin"))
    assert len(letters.json()) >= 1
    replayed = await api.http.post("/v1/rejected/replay", json={}, headers=api.headers("admin"))
    assert replayed.json()["stored"] == 0
    assert await tables.fetchval("select count(*) from device where device_id = 'victim2'") == 0


async def test_an_ingest_key_posts_events_of_any_device(api: Guarded) -> None:
    batch = [EVENT | {"event_id": "i1", "device_id": each} for each in ("a1", "a2")]
    answer = await api.http.post("/v1/events/batch", json=batch, headers=api.headers("ingest"))
    assert [item["status"] for item in answer.json()] == ["stored", "stored"]


# -- Many wrong ones. --


async def test_after_ten_wrong_secrets_an_address_gets_429_for_wrong_ones_alone(
    api: Guarded,
) -> None:
    codes = [
        (await api.http.get("/live", headers=bearer("wrong"))).status_code
        for _ in range(failed_logins.PER_ADDRESS_MAX + 2)
    ]
    assert codes == [401] * failed_logins.PER_ADDRESS_MAX + [429, 429]
    late = await api.http.post("/v1/session", json={"key": "wrong"})
    assert late.status_code == 429
    assert 1 <= int(late.headers["retry-after"]) <= 60
    assert (await api.http.get("/v1/devices", headers=api.headers("read"))).status_code == 200
    assert (await api.http.get("/v1/devices")).status_code == 401  # No secret is no wrong one.
    api.from_elsewhere()
    assert (await api.http.get("/live", headers=bearer("wrong"))).status_code == 401


async def test_each_wrong_secret_is_a_row_of_the_audit_with_its_address(
    api: Guarded, tables: Connection
) -> None:
    await api.http.get("/v1/devices", headers=bearer("wrong"))
    await api.http.post("/v1/session", json={"key": "wrong"})
    rows = await until_in_audit(tables, "login.failed", api, 2)
    assert [(row["actor"], row["details"]["route"]) for row in rows] == [
        ("anyone", "/v1/session"), ("anyone", "/v1/devices"),
    ]  # fmt: skip


async def until_in_audit(
    tables: Connection, action: str, api: Guarded, rows_min: int = 1
) -> list[dict[str, Any]]:
    """The newest rows from the present address."""
    address = cast("Any", api.http)._transport.client[0]
    query = {"action": action, "address": address}
    async with asyncio.timeout(WITHIN_S):
        while True:
            answer = await api.http.get("/v1/audit", params=query, headers=api.headers("read"))
            if len(answer.json()) >= rows_min:
                return cast("list[dict[str, Any]]", answer.json())
            await asyncio.sleep(0.05)


# -- Sessions of browsers. --


async def begin(api: Guarded, who: str = "admin", **headers: str) -> httpx.Response:
    return await api.http.post("/v1/session", json={"key": api.secrets[who]}, headers=headers)


async def test_a_session_is_a_cookie_that_no_script_reads_and_no_other_site_sends(
    api: Guarded,
) -> None:
    cookie = (await begin(api)).headers["set-cookie"]
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
        "httponly", "max-age=43200", "path=/", "samesite=strict",
    }  # fmt: skip
    assert api.secrets["admin"] not in cookie
    assert (await api.http.get("/v1/keys")).status_code == 200


async def test_beyond_loopback_the_cookie_is_sent_over_tls_alone(
    database: tuple[str, dict[str, str]],
) -> None:
    async with guarded_api(*database, http_host="0.0.0.0") as api:
        cookie = (await begin(api)).headers["set-cookie"]
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
    await begin(api)
    rule = {"metric": "temp", "op": ">", "threshold": 30}
    assert (await api.http.post("/v1/alerts", json=rule, headers=sent)).status_code == code


async def test_another_site_cannot_log_a_browser_in_with_a_key_of_its_own(api: Guarded) -> None:
    for sent in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = await begin(api, **sent)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


async def test_a_session_gets_a_token_of_its_own_whatever_cookie_the_browser_had(
    api: Guarded,
) -> None:
    api.http.cookies.set("voltwire_session", "chosen-by-an-attacker", domain="127.0.0.1")
    await begin(api)
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
    cookie = {"Cookie": (await begin(api)).headers["set-cookie"].partition(";")[0]}
    api.http.cookies.clear()
    ended = await api.http.delete("/v1/session", headers=cookie | {"Origin": ORIGIN})
    assert ended.status_code == 204
    assert "max-age=0" in ended.headers["set-cookie"].lower()
    assert (await api.http.get("/v1/devices", headers=cookie)).status_code == 401
    secret = await create(tables, COMMAND, Kind.KEY, "short", [Scope.READ])
    assert secret is not None
    await until_status(api, bearer(secret), 200)
    begun = await api.http.post("/v1/session", json={"key": secret})
    cookie = {"Cookie": begun.headers["set-cookie"].partition(";")[0]}
    api.http.cookies.clear()
    assert (await api.http.get("/v1/devices", headers=cookie)).status_code == 200
    await revoke(tables, COMMAND, ["short"], Kind.KEY)
    await until_status(api, cookie, 401)
    token = cookie["Cookie"].partition("=")[2]
    kept = await tables.fetch("select digest from browser_session")
    assert digest(token.encode()) not in {row["digest"] for row in kept}


async def test_a_header_goes_before_a_cookie(api: Guarded) -> None:
    await begin(api)
    assert (await api.http.get("/v1/keys", headers=bearer("wrong"))).status_code == 401
    assert (await api.http.get("/v1/keys", headers=api.headers("device"))).status_code == 403


async def test_the_secret_of_a_device_begins_no_session(api: Guarded) -> None:
    assert (await begin(api, "device")).status_code == 403


async def until_status(api: Guarded, headers: dict[str, str], code: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while (await api.http.get("/v1/devices", headers=headers)).status_code != code:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


# -- Streams. --


async def test_a_stream_ends_when_its_key_is_revoked(api: Guarded, tables: Connection) -> None:
    secret = await create(tables, COMMAND, Kind.KEY, "viewer", [Scope.READ])
    assert secret is not None
    await until_status(api, bearer(secret), 200)
    stream = asyncio.create_task(open_stream(api, bearer(secret)))
    await stream_is_open(api, 1)
    await revoke(tables, COMMAND, ["viewer"], Kind.KEY)
    async with asyncio.timeout(CUT_S_MAX):
        await stream
    again = await api.http.get("/v1/alerts/stream", headers=bearer(secret))
    assert again.status_code == 401


async def test_a_stream_of_a_session_ends_with_the_session(api: Guarded) -> None:
    cookie = {"Cookie": (await begin(api, "read")).headers["set-cookie"].partition(";")[0]}
    api.http.cookies.clear()
    stream = asyncio.create_task(open_stream(api, cookie))
    await stream_is_open(api, 1)
    await api.http.delete("/v1/session", headers=cookie | {"Origin": ORIGIN})
    async with asyncio.timeout(CUT_S_MAX):
        await stream


async def test_other_streams_go_on_when_a_key_is_revoked(api: Guarded, tables: Connection) -> None:
    await create(tables, COMMAND, Kind.KEY, "bystander", [Scope.READ])
    stream = asyncio.create_task(open_stream(api, api.headers("read")))
    await stream_is_open(api, 1)
    await revoke(tables, COMMAND, ["bystander"], Kind.KEY)
    done, _ = await asyncio.wait([stream], timeout=0.3)
    assert not done
    stream.cancel()


async def open_stream(api: Guarded, headers: dict[str, str]) -> None:
    """Until the server ends it. The transport has no socket, so it returns the answer as a whole."""
    answer = await api.http.get("/v1/alerts/stream", headers=headers)
    assert answer.status_code == 200


async def stream_is_open(api: Guarded, count: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while api.feed._open_streams < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_key_has_at_most_half_of_all_streams(database: tuple[str, dict[str, str]]) -> None:
    async with guarded_api(*database, streams_max=4) as api:
        held = [asyncio.create_task(open_stream(api, api.headers("read"))) for _ in range(2)]
        await stream_is_open(api, 2)
        third = await api.http.get("/v1/alerts/stream", headers=api.headers("read"))
        assert (third.status_code, third.headers["retry-after"]) == (429, "5")
        other = asyncio.create_task(open_stream(api, api.headers("admin")))
        await stream_is_open(api, 3)
        for each in (*held, other):
            each.cancel()
        await asyncio.wait([*held, other])
        await stream_is_open(api, 0)
        assert api.feed._open_streams == 0
        assert not api.feed._held
