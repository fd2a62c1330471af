"""Keys and devices' secrets over HTTP: made once, rotated, revoked, and each act in the audit."""

import asyncio
from typing import Any

import pytest

from api.auth import upkeep
from schema.access.secrets import digest, is_well_formed
from schema.database import Connection
from tests.support.http.access import WITHIN_S, Guarded, add_key, bearer, guarded_api
from tests.support.http.http_api import all_pages, api_on

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENT: dict[str, Any] = {"metrics": {"temp": 1}}


async def code_of(api: Guarded, secret: str, path: str = "/v1/devices") -> int:
    api.from_elsewhere()
    return (await api.http.get(path, headers=bearer(secret))).status_code


async def test_a_key_is_in_force_with_the_answer_that_shows_its_secret_once(api: Guarded) -> None:
    new = {"name": "grafana", "scopes": ["read", "metrics", "read"]}
    response = await api.http.post("/v1/keys", json=new, headers=api.headers("admin"))
    assert response.headers["cache-control"] == "no-store"
    made = response.json()
    assert (made["name"], made["scopes"]) == ("grafana", ["metrics", "read"])
    assert is_well_formed(made["secret"])
    assert await code_of(api, made["secret"]) == 200
    assert await code_of(api, made["secret"], "/metrics") == 200
    listed = await api.http.get("/v1/keys", headers=api.headers("admin"))
    assert made["secret"] not in listed.text
    [shown] = [each for each in listed.json() if each["name"] == "grafana"]
    assert set(shown) == {"name", "scopes", "created_at", "last_used_at"}


async def test_a_revoked_key_is_refused_from_the_answer_on(api: Guarded) -> None:
    secret = await add_key(api, "gone", "read")
    assert await code_of(api, secret) == 200
    response = await api.http.delete("/v1/keys/gone", headers=api.headers("admin"))
    assert response.status_code == 204
    assert await code_of(api, secret) == 401
    again = await api.http.delete("/v1/keys/gone", headers=api.headers("admin"))
    assert again.status_code == 404


@pytest.mark.parametrize(
    "body",
    [{}, {"name": "k"}, {"name": "k", "scopes": []}, {"name": "k", "scopes": ["root"]},
     {"name": "a b", "scopes": ["read"]}, {"name": "", "scopes": ["read"]},
     {"name": "k", "scopes": "read"}, {"name": "k", "scopes": ["read"], "secret": "x"}],
)  # fmt: skip
async def test_a_bad_key_is_refused(api: Guarded, body: dict[str, Any]) -> None:
    response = await api.http.post("/v1/keys", json=body, headers=api.headers("admin"))
    assert response.status_code == 422


async def test_a_name_is_used_once_and_keys_are_listed_by_name_in_pages(api: Guarded) -> None:
    await add_key(api, "twice", "read")
    again = {"name": "twice", "scopes": ["read"]}
    response = await api.http.post("/v1/keys", json=again, headers=api.headers("admin"))
    assert response.status_code == 409
    api.http.headers.update(api.headers("read"))
    names = [each["name"] for each in await all_pages(api.http, "/v1/keys?limit=2")]
    assert names == sorted(names)
    assert {"admin", "ingest", "metrics", "read", "twice"} <= set(names)


async def test_the_last_admin_key_stays(api: Guarded) -> None:
    await add_key(api, "second", "admin", "read")
    assert (
        await api.http.delete("/v1/keys/second", headers=api.headers("admin"))
    ).status_code == 204
    refused = await api.http.delete("/v1/keys/admin", headers=api.headers("admin"))
    assert refused.status_code == 409
    assert "last admin key" in refused.json()["detail"]


async def test_two_admins_cannot_delete_each_other_at_once(api: Guarded) -> None:
    other = await add_key(api, "other", "admin")
    responses = await asyncio.gather(
        api.http.delete("/v1/keys/other", headers=api.headers("admin")),
        api.http.delete("/v1/keys/admin", headers=bearer(other)),
    )
    codes = sorted(response.status_code for response in responses)
    assert codes in ([204, 409], [204, 401])
    if responses[0].status_code != 204:  # The other one won: give the file its admin key back.
        api.secrets["admin"] = other
        api.secrets["admin"] = await add_key(api, "admin", "admin")
        deleted = await api.http.delete("/v1/keys/other", headers=api.headers("admin"))
        assert deleted.status_code == 204


async def test_a_device_gets_a_secret_a_login_and_later_a_new_secret(api: Guarded) -> None:
    path, sent = "/v1/devices/new:1/credentials", api.headers("admin")
    made = await api.http.post(path, headers=sent)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    first = made.json()
    assert (first["device_id"], first["login"]) == ("new:1", "new%3A1")
    assert first["secret"].startswith("vwd_")
    assert (await api.http.post(path, headers=sent)).status_code == 409
    assert await posts_as(api, first["secret"], "e1") == 200
    second = (await api.http.post(f"{path}/rotate", headers=sent)).json()
    assert await posts_as(api, second["secret"], "e2") == 200
    assert await posts_as(api, first["secret"], "e3") == 401
    assert (await api.http.delete(path, headers=sent)).status_code == 204
    assert await posts_as(api, second["secret"], "e4") == 401
    assert (await api.http.delete(path, headers=sent)).status_code == 404
    assert (await api.http.post(f"{path}/rotate", headers=sent)).status_code == 404


async def posts_as(api: Guarded, secret: str, event_id: str) -> int:
    api.from_elsewhere()
    event = EVENT | {"event_id": event_id}
    return (await api.http.post("/v1/events", json=event, headers=bearer(secret))).status_code


@pytest.mark.slow
async def test_the_former_secret_is_valid_until_the_overlap_ends(api: Guarded) -> None:
    path, sent = "/v1/devices/overlap/credentials", api.headers("admin")
    former = (await api.http.post(path, headers=sent)).json()["secret"]
    rotated = await api.http.post(f"{path}/rotate", json={"overlap_s": 4}, headers=sent)
    assert rotated.json()["overlap_s"] == 4
    assert await posts_as(api, former, "e1") == 200
    assert await posts_as(api, rotated.json()["secret"], "e2") == 200
    async with asyncio.timeout(WITHIN_S):
        while await posts_as(api, former, "e1") != 401:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert await posts_as(api, rotated.json()["secret"], "e3") == 200
    whole = await api.http.post(f"{path}/rotate", json={"overlap_s": 60}, headers=sent)
    assert whole.text.endswith('"overlap_s":60}')


async def test_devices_that_may_log_in_are_listed_once_by_name_in_pages(api: Guarded) -> None:
    sent = api.headers("admin")
    for name, certificate in (("both:1", True), ("both:1", False), ("secret", False)):
        await api.http.post(
            f"/v1/devices/{name}/credentials", params={"certificate": certificate}, headers=sent
        )
    api.http.headers.update(api.headers("read"))
    listed = await all_pages(api.http, "/v1/credentials?limit=1")
    shown = {each["device_id"]: each for each in listed}
    assert len(shown) == len(listed)
    both = shown["both:1"]
    assert (both["login"], both["secret"], both["certificate"]) == ("both%3A1", True, True)
    assert shown["secret"]["certificate"] is False
    assert "vwd_" not in str(listed)


@pytest.mark.parametrize("overlap", [-1, 1e9, "60", None, True])
async def test_an_impossible_overlap_is_refused(api: Guarded, overlap: object) -> None:
    response = await api.http.post(
        "/v1/devices/x/credentials/rotate",
        json={"overlap_s": overlap},
        headers=api.headers("admin"),
    )
    assert response.status_code == 422


@pytest.mark.parametrize("name", ["voltwire-ingest", "voltwire-ingest-2", "voltwire-delivery"])
async def test_no_device_gets_a_client_id_of_ours(api: Guarded, name: str) -> None:
    for query in ({}, {"certificate": "true"}):
        response = await api.http.post(
            f"/v1/devices/{name}/credentials", params=query, headers=api.headers("admin")
        )
        assert response.status_code == 422
        assert "client id of Voltwire" in response.json()["detail"]


async def test_an_impossible_device_id_is_refused(api: Guarded) -> None:
    for name in ("_key.admin", "a b", "-a", "x" * 129):
        response = await api.http.post(
            f"/v1/devices/{name}/credentials", headers=api.headers("admin")
        )
        assert response.status_code == 422, name


async def test_a_certificate_is_accepted_by_name_and_forgotten_with_the_device(
    api: Guarded, tables: Connection
) -> None:
    path, sent = "/v1/devices/cert/credentials", api.headers("admin")
    made = await api.http.post(path, params={"certificate": "true"}, headers=sent)
    assert (made.status_code, made.json()) == (201, {"device_id": "cert", "login": "cert"})
    again = await api.http.post(path, params={"certificate": "true"}, headers=sent)
    assert again.status_code == 409
    await api.http.post(path, headers=sent)
    await add_key(api, "cert", "read")  # A key of the same name is another thing.
    forgotten = await api.http.delete("/v1/devices/cert", headers=sent)
    assert forgotten.status_code == 204
    kinds = await tables.fetch("select kind from credential where name = 'cert'")
    assert [row["kind"] for row in kinds] == ["key"]
    assert (await api.http.delete("/v1/devices/cert", headers=sent)).status_code == 404


async def test_a_device_that_is_forgotten_cannot_post_any_more(api: Guarded) -> None:
    sent = api.headers("admin")
    made = await api.http.post("/v1/devices/leaver/credentials", headers=sent)
    secret = made.json()["secret"]
    assert await posts_as(api, secret, "e1") == 200
    assert (await api.http.delete("/v1/devices/leaver", headers=sent)).status_code == 204
    async with asyncio.timeout(WITHIN_S):
        while await posts_as(api, secret, "e2") != 401:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_the_time_of_use_is_saved(
    database: tuple[str, dict[str, str]], tables: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "USED_EVERY_S", 0.05)
    async with guarded_api(*database) as api:
        secret = await add_key(api, "used", "read")
        assert await code_of(api, secret) == 200
        async with asyncio.timeout(WITHIN_S):
            while await last_used(tables, secret) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def last_used(tables: Connection, secret: str) -> object:
    query = "select last_used_at from credential where digest = $1"
    return await tables.fetchval(query, digest(secret.encode()))


async def test_without_authentication_keys_can_be_made_for_later(dsn: str) -> None:
    async with api_on(dsn) as http:
        made = await http.post("/v1/keys", json={"name": "later", "scopes": ["admin"]})
        assert made.status_code == 201
        assert (await http.get("/v1/devices", headers=bearer("wrong"))).status_code == 200
        assert (await http.post("/v1/session", json={"key": "x"})).status_code == 409
        assert (await http.delete("/v1/keys/later")).status_code == 204
        [row, *_] = (await http.get("/v1/audit")).json()
        assert (row["actor"], row["address"], row["action"]) == (
            "anyone", "127.0.0.1", "key.revoke",
        )  # fmt: skip
