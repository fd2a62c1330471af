"""What an attacker may try over HTTP with no credential, a wrong one, or one that may do less."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from api.auth import failed_logins
from schema.access.secrets import CredentialKind, make_secret
from schema.database import Connection
from tests.support.http.access import DEVICE, WITHIN_S, Guarded, bearer

pytestmark = pytest.mark.asyncio(loop_scope="module")

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
    response = await api.http.get("/v1/devices", headers=[(b"authorization", value)])
    assert response.status_code == 401


async def test_the_scheme_has_no_case_and_spaces_around_a_secret_do_not_count(api: Guarded) -> None:
    for form in ("bearer {}", "BEARER {}", "Bearer   {}  "):
        value = form.format(api.secrets["admin"])
        response = await api.http.get("/v1/devices", headers={"Authorization": value})
        assert response.status_code == 200, form


async def test_two_authorization_headers_are_refused_even_if_both_are_right(api: Guarded) -> None:
    right = ("Authorization", f"Bearer {api.secrets['admin']}")
    for other in (right, ("Authorization", "Bearer x")):
        for pair in ([right, other], [other, right]):
            assert (await api.http.get("/v1/devices", headers=pair)).status_code == 401


async def test_a_very_long_secret_is_refused_without_work(api: Guarded) -> None:
    response = await api.http.get("/v1/devices", headers=bearer("x" * 60_000))
    assert response.status_code == 401


async def test_every_wrong_secret_gets_the_same_answer(api: Guarded) -> None:
    new = {"name": "old", "scopes": ["admin"]}
    made = await api.http.post("/v1/keys", json=new, headers=api.headers("admin"))
    revoked = made.json()["secret"]
    await api.http.delete("/v1/keys/old", headers=api.headers("admin"))
    admin = api.secrets["admin"]
    almost = admin[:-1] + ("a" if admin[-1] != "a" else "b")
    unknown = make_secret(CredentialKind.KEY)
    responses = [await api.http.get("/v1/devices")]
    responses += [
        await api.http.get("/v1/devices", headers=bearer(each))
        for each in (revoked, almost, unknown)
    ]
    assert {response.status_code for response in responses} == {401}
    assert len({response.content for response in responses}) == 1
    assert len({tuple(sorted(response.headers.items())) for response in responses}) == 1


@pytest.mark.parametrize("name", ["api_key", "key", "access_token", "authorization"])
async def test_a_key_in_the_query_is_no_key(api: Guarded, name: str) -> None:
    response = await api.http.get("/v1/devices", params={name: api.secrets["admin"]})
    assert response.status_code == 401


async def test_no_secret_is_in_a_log_an_answer_or_the_audit(
    api: Guarded, tables: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = make_secret(CredentialKind.KEY)
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
        response = await api.http.post(
            "/v1/events", json=event | {"event_id": f"own{n}"}, headers=sent
        )
        assert response.json() == {"status": "ok"}
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
    response = await api.http.post("/v1/events/batch", json=batch, headers=api.headers("device"))
    assert [n for n, item in enumerate(response.json()) if item["status"] != "stored"] == [300]
    assert response.json()[300]["reason"] == "device_mismatch"


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
    response = await api.http.post("/v1/events/batch", json=batch, headers=api.headers("ingest"))
    assert [item["status"] for item in response.json()] == ["stored", "stored"]


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
            response = await api.http.get("/v1/audit", params=query, headers=api.headers("read"))
            if len(response.json()) >= rows_min:
                return cast("list[dict[str, Any]]", response.json())
            await asyncio.sleep(0.05)
