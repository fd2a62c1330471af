"""The audit: every change and every failed login is a row."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from schema.database import Connection
from tests.support.http.access import Guarded, add_key
from tests.support.http.http_api import all_pages

pytestmark = pytest.mark.asyncio(loop_scope="module")

RULE = {"metric": "temp", "op": ">", "threshold": 30}
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
CHANNEL = {"name": "c1", "url": "https://example.com/hook", "secret": SECRET}
# A request for every operation that changes something, in an order in which each succeeds.
CHANGES: Mapping[str, tuple[str, Any]] = {
    "POST /v1/devices": ("/v1/devices", {"device_id": "audited"}),
    "PUT /v1/devices/{device_id}": ("/v1/devices/audited", {"name": "A"}),
    "POST /v1/devices/{device_id}/credentials": ("/v1/devices/audited/credentials", None),
    "POST /v1/devices/{device_id}/credentials/rotate": (
        "/v1/devices/audited/credentials/rotate", {"overlap_s": 0},
    ),
    "DELETE /v1/devices/{device_id}/credentials": ("/v1/devices/audited/credentials", None),
    "DELETE /v1/devices/{device_id}": ("/v1/devices/audited", None),
    "POST /v1/devices/import": ("/v1/devices/import", [{"device_id": "audited3"}]),
    "PUT /v1/profiles/{name}": ("/v1/profiles/audited", {"metrics": {"x": {"min": 0}}}),
    "POST /v1/alerts": ("/v1/alerts", RULE),
    "PUT /v1/alerts/{rule_id}": ("/v1/alerts/{rule}", RULE | {"threshold": 31}),
    "DELETE /v1/alerts/{rule_id}": ("/v1/alerts/{rule}", None),
    "POST /v1/channels": ("/v1/channels", CHANNEL),
    "PUT /v1/channels/{name}": ("/v1/channels/c1", {"url": CHANNEL["url"]}),
    "DELETE /v1/channels/{name}": ("/v1/channels/c1", None),
    "DELETE /v1/devices/{device_id}/reused_ids": ("/v1/devices/audited2/reused_ids", None),
    "POST /v1/silences": (
        "/v1/silences", {"device_id": "audited2", "to_time": "2100-01-01T00:00:00Z"},
    ),
    "DELETE /v1/silences/{silence_id}": ("/v1/silences/1", None),
    "POST /v1/rejected/replay": ("/v1/rejected/replay", {"ids": [1]}),
    "POST /v1/keys": ("/v1/keys", {"name": "audited", "scopes": ["read"]}),
    "DELETE /v1/keys/{name}": ("/v1/keys/audited", None),
}  # fmt: skip
# Events are data; a test of a channel and an incident need another role; sessions have tests of their own.
NO_CHANGES = {
    "POST /v1/events", "POST /v1/events/batch", "POST /telemetry", "POST /v1/session",
    "DELETE /v1/session", "POST /v1/channels/{name}/test",
    "POST /v1/alerts/backtest",
    "POST /v1/incidents/{incident_id}/ack",
}  # fmt: skip


@pytest.mark.slow
async def test_every_operation_that_changes_something_is_a_row_of_the_audit(
    api: Guarded, tables: Connection
) -> None:
    document = (await api.http.get("/openapi.json")).json()
    operations = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
        if method != "get"
    }
    assert operations == CHANGES.keys() | NO_CHANGES
    rule = ""
    await request(api, "PUT", "/v1/devices/audited2", {})
    for operation, (path, body) in CHANGES.items():
        before = await tables.fetchval("select coalesce(max(audit_id), 0) from audit")
        response = await request(api, operation, path.replace("{rule}", rule), body)
        assert response.is_success, (operation, response.text)
        rule = response.json()["id"] if operation == "POST /v1/alerts" else rule
        query = "select actor, address, action, target from audit where audit_id > $1"
        rows = await tables.fetch(query, before)
        assert len(rows) >= 1, operation
        assert {row["actor"] for row in rows} == {"key:admin"}, operation
        assert all(row["address"] for row in rows), operation
        assert "audited" in path or operation.startswith("POST") or rows[0]["target"], operation


async def request(api: Guarded, operation: str, path: str, body: object) -> httpx.Response:
    method = operation.partition(" ")[0]
    return await api.http.request(method, path, json=body, headers=api.headers("admin"))


async def test_a_change_that_fails_leaves_no_row(api: Guarded, tables: Connection) -> None:
    before = await tables.fetchval("select count(*) from audit")
    for operation, path, body in (
        ("DELETE", "/v1/devices/nobody", None),
        ("DELETE", "/v1/alerts/nothing", None),
        ("PUT", "/v1/devices/x", {"profile": "nowhere"}),
        ("DELETE", "/v1/keys/nobody", None),
    ):
        assert (await request(api, operation, path, body)).is_client_error
    assert await tables.fetchval("select count(*) from audit") == before


async def test_the_audit_is_filtered_and_paged(api: Guarded) -> None:
    for n in range(3):
        await add_key(api, f"row{n}", "read")
    api.http.headers.update(api.headers("read"))
    rows = await all_pages(api.http, "/v1/audit?limit=2&action=key.create")
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
    assert {row["action"] for row in rows} == {"key.create"}
    [row] = await all_pages(api.http, "/v1/audit?target=row1&actor=key:admin")
    assert (row["action"], row["details"]) == ("key.create", {"scopes": ["read"]})
    later = {"from_time": row["at"], "to_time": "2100-01-01T00:00:00Z", "target": "row1"}
    assert len((await api.http.get("/v1/audit", params=later)).json()) == 1
    assert (await api.http.get("/v1/audit", params={"address": "192.0.2.1"})).json() == []
    assert (await api.http.get("/v1/audit", params={"actor": "a\0"})).status_code == 422
