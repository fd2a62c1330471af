"""`voltwire retention` beside a running system, and what queries find afterwards."""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import base_url
from tests.support.http import plain_http
from tests.support.processes.services import Process, temporary_folder, voltwire_in

DAYS = 90


@pytest.fixture(scope="module")
def up(embedded_up: Process) -> Process:
    """The command finds the embedded PostgreSQL by its data folder."""
    return embedded_up


@pytest.fixture
def http(up: Process) -> Iterator[httpx.Client]:
    with plain_http.Client(base_url=base_url(up), timeout=30) as client:
        yield client


def retention(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return voltwire_in(folder, ("retention", *arguments), settings)


def event(days_ago: int) -> dict[str, Any]:
    return {
        "event_id": f"e{days_ago}",
        "device_id": "a",
        "timestamp": (datetime.now(UTC) - timedelta(days=days_ago)).isoformat(),
        "metrics": {"x": days_ago},
        "tags": ["room:1"],
    }


def test_what_the_preview_shows_is_dropped_and_a_query_for_it_names_the_first_time_left(
    up: Process, http: httpx.Client
) -> None:
    old, new = event(200), event(5)
    assert http.post("/v1/events/batch", json=[old, new]).status_code == 200

    kept = retention(up.folder, "--dry-run", DATA_DIR="data")
    assert (kept.returncode, kept.stderr) == (0, "")
    assert "RETENTION_DAYS is 0: every raw event is kept." in kept.stdout

    shown = retention(up.folder, "--dry-run", DATA_DIR="data", RETENTION_DAYS=str(DAYS))
    assert (shown.returncode, shown.stderr) == (0, "")
    month = f"event_{datetime.fromisoformat(old['timestamp']):%Y_%m}"
    (row,) = [
        line.split() for line in shown.stdout.splitlines() if line.lstrip().startswith("event_")
    ]
    assert [row[0], *row[3:5]] == [month, "1", "1"]
    assert len(http.get("/v1/devices/a/events").json()) == 2

    done = retention(up.folder, DATA_DIR="data", RETENTION_DAYS=str(DAYS))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"partition {month}" in done.stdout

    everything = http.get("/v1/devices/a/events").json()
    assert [found["event_id"] for found in everything] == ["e5"]
    back = http.post("/v1/events", json=old)
    assert (back.status_code, back.json()["reason"]) == (422, "older_than_retention")

    early = (datetime.now(UTC) - timedelta(days=199)).isoformat()
    late = (datetime.now(UTC) - timedelta(days=195)).isoformat()
    floor = (datetime.now(UTC) - timedelta(days=DAYS)).strftime("%Y-%m-01T00:00:00Z")
    for path, first in (
        ("/v1/devices/a/events", {"from_time": early}),
        ("/v1/devices/a/events", {"to_time": floor}),
        ("/v1/search?tag=room:1", {"from_time": early, "to_time": late}),
        ("/v1/search?tag=room:1", {"to_time": late}),
        ("/devices/a/metrics", {"start_time": early, "end_time": late}),
    ):
        url = httpx.URL(path).copy_merge_params(first)
        response = http.get(url)
        assert (response.status_code, response.json().get("available_from")) == (422, floor), path
    (found,) = http.get("/v1/devices/a/events", params={"from_time": floor}).json()
    assert found["event_id"] == "e5"
    summed_up = {"metric": "x", "from_time": "2000-01-01T00:00:00Z", "to_time": new["timestamp"]}
    (bucket,) = http.get("/v1/metrics/aggregate", params=summed_up | {"interval": "1d"}).json()
    assert (bucket["count"], bucket["sum"]) == (1, 200)
    fine = http.get("/v1/metrics/aggregate", params=summed_up | {"interval": "1m"})
    assert (fine.status_code, fine.json().get("available_from")) == (422, floor)


def test_without_a_database_it_says_which_one_is_missing() -> None:
    with temporary_folder() as folder:
        result = retention(folder, "--dry-run")
    assert result.returncode == 1
    assert "DATABASE_URL is not set, and no voltwire up runs on .voltwire" in result.stderr
