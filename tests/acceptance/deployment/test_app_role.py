"""The whole product with a database login that owns nothing, as docs/operations.md sets it up."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.conftest import base_url, running_up
from tests.conftest import MAX_EVENT_AGE_DAYS, Administrate, with_database
from tests.support.database.app_role import as_user, documented_statements
from tests.support.http import plain_http
from tests.support.processes.services import Process, temporary_folder, voltwire

DAYS = str(MAX_EVENT_AGE_DAYS)
AGO = (datetime.now(UTC) - timedelta(days=200)).isoformat()
WRITES = [
    ("POST", "/v1/devices", {"device_id": "d1", "name": "one"}),
    ("PUT", "/v1/devices/d1", {"name": "uno"}),
    ("PUT", "/v1/profiles/own", {"metrics": {"x": {"min": 0}}}),
    ("POST", "/v1/alerts", {"metric": "x", "op": ">", "threshold": 1, "severity": "info"}),
    ("POST", "/v1/events", {"device_id": "d1", "event_id": "e1", "metrics": {"x": 2}}),
    (
        "POST",
        "/v1/events",
        {"device_id": "d1", "event_id": "e0", "timestamp": AGO, "metrics": {"x": 2}},
    ),
    ("POST", "/v1/rejected/replay", {"reason": "malformed_json"}),
    ("DELETE", "/v1/alerts/r1", None),
    ("DELETE", "/v1/devices/d1", None),
]


@pytest.fixture(scope="module")
def logins(postgres: str, administrate: Administrate) -> Iterator[tuple[str, str]]:
    """The DSNs of the owner and of the user that owns nothing, made as the documents say."""
    unique = uuid4().hex
    owner, app, name = (f"voltwire_{each}_{unique}" for each in ("owner", "app", "db"))
    for statement in documented_statements("Owner and app role"):
        named = statement.replace("voltwire_owner", owner).replace("voltwire_app", app)
        administrate(named.replace("database voltwire ", f"database {name} "))
    dsn = with_database(postgres, name)
    owner_dsn, app_dsn = as_user(dsn, owner), as_user(dsn, app)
    done = voltwire(
        "migrate", "--app-role", app,
        DATABASE_URL=app_dsn, OWNER_DATABASE_URL=owner_dsn, MAX_EVENT_AGE_DAYS=DAYS,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("ERROR")) == (0, 0), done.stderr
    assert f"The role {app} may read and write the tables" in done.stdout
    yield owner_dsn, app_dsn
    for statement in (f"database {name} with (force)", f"role {app}", f"role {owner}"):
        administrate(f"drop {statement}")


@pytest.fixture(scope="module")
def up(logins: tuple[str, str]) -> Iterator[Process]:
    """Without the owner's login, and with retention, which then cannot run."""
    settings: dict[str, Any] = {"RETENTION_DAYS": "300", "MAX_EVENT_AGE_DAYS": DAYS}
    with running_up(DATABASE_URL=logins[1], **settings) as process:
        yield process


def test_every_role_works_and_the_selftest_passes(up: Process) -> None:
    ports = {name: up.settings[name] for name in ("HTTP_PORT", "MQTT_PORT")}
    done = voltwire("selftest", "--events", "100", **ports)
    assert done.returncode == 0, done.stdout + done.stderr
    with plain_http.Client(base_url=base_url(up), timeout=30) as http:
        for method, path, body in WRITES:
            response = http.request(method, path, json=body)
            assert response.status_code < 300, (path, response.text)
    assert "permission denied" not in up.log.read_text()


def test_health_says_that_retention_does_not_run_and_nothing_is_hidden(up: Process) -> None:
    with plain_http.Client(base_url=base_url(up), timeout=30) as http:
        health = http.get("/health").raise_for_status().json()
        assert health["checks"]["retention"]["status"] == "failing"
        assert "Set OWNER_DATABASE_URL" in health["checks"]["retention"]["detail"]
        old = {"from_time": "2000-01-01T00:00:00Z", "to_time": datetime.now(UTC).isoformat()}
        response = http.get("/v1/devices/d1/events", params=old)
        assert "e0" in {event["event_id"] for event in response.raise_for_status().json()}


def test_retention_says_what_to_set_and_runs_with_the_owners_login(
    up: Process, logins: tuple[str, str]
) -> None:
    owner, app = logins
    settings = {"DATABASE_URL": app, "RETENTION_DAYS": "100"}
    refused = voltwire("retention", **settings)
    assert refused.returncode == 1
    assert "Set OWNER_DATABASE_URL to the login of their owner" in refused.stderr
    done = voltwire("retention", **settings, OWNER_DATABASE_URL=owner)
    assert (done.returncode, done.stderr) == (0, "")
    assert "A month of raw events was dropped" in done.stdout


def test_a_backup_is_made_with_either_login(logins: tuple[str, str]) -> None:
    owner, app = logins
    with temporary_folder() as folder:
        for name, settings in (
            ("app", {"DATABASE_URL": app}),
            ("owner", {"DATABASE_URL": app, "OWNER_DATABASE_URL": owner}),
        ):
            done = voltwire("backup", str(folder / name), **settings)
            assert done.returncode == 0, done.stderr
