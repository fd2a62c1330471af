"""Two members of an instance as on two machines: the API names the one whose messages wait in the broker."""

from collections.abc import Iterator

import httpx
import pytest

from tests.acceptance.deployment.test_workers import Site, ready, until, url
from tests.support.brokers.mosquitto import mosquitto
from tests.support.http import plain_http
from tests.support.processes.services import Process, temporary_folder

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]
SILENT = "member 2: its messages wait in the broker"


@pytest.fixture
def site(dsn: str) -> Iterator[Site]:
    with temporary_folder() as folder, mosquitto() as broker:
        site = Site(folder, dsn, broker)
        yield site
        site.close()


def members(api: Process) -> object:
    """What the check says; the API does its own job meanwhile."""
    response = plain_http.get(f"{url(api)}/health", timeout=30)
    assert response.status_code == httpx.codes.OK, response.text
    return response.json()["checks"].get("members")


def test_the_api_names_a_member_that_was_killed_until_it_is_back(site: Site) -> None:
    ready(site.start("ingest", "--first", "1", "--members", "2"))
    second = ready(site.start("ingest", "--first", "2", "--members", "2"))
    api = ready(site.start("api"))
    assert members(api) is None
    second.kill()
    until(lambda: members(api) == {"status": "failing", "detail": SILENT}, api)
    second.start()
    back = {"status": "ok", "detail": "every member receives"}
    until(lambda: members(api) == back, api)
