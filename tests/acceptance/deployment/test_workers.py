"""`voltwire ingest` and `voltwire api` with `--workers`: sharing, crashes, changes of their number."""

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.chaos.installation import FLOW
from tests.acceptance.commands.test_selftest import assert_clean, selftest
from tests.acceptance.http.test_http import take_events
from tests.support.brokers.login import Login, publish
from tests.support.brokers.mosquitto import Mosquitto, mosquitto
from tests.support.brokers.mqtt import RawClient
from tests.support.http import plain_http
from tests.support.ledger.ledger import Ledger, StoredRow, compare
from tests.support.ledger.load import MqttLoad
from tests.support.ledger.payload_mix import PayloadComposer, PayloadMix
from tests.support.processes.services import (
    Process,
    assert_gone,
    family,
    free_port,
    temporary_folder,
    voltwire,
)

pytestmark = pytest.mark.timeout(300)
WAIT_S_MAX = 60
# The kernel chooses a worker per connection.
NO_KEEP_ALIVE = httpx.Limits(max_keepalive_connections=0)


class Site:
    """A database and a broker; commands with one port for their status or API."""

    def __init__(self, folder: Path, dsn: str, broker: Mosquitto) -> None:
        self.dsn, self.broker = dsn, broker
        self._folder, self._processes = folder, list[Process]()

    def start(self, role: str, *arguments: str) -> Process:
        port = str(free_port())
        settings = {
            "DATABASE_URL": self.dsn,
            # A password, which this broker does not ask for, makes the group of the members a secret.
            "MQTT_URL": f"mqtt://:secret@127.0.0.1:{self.broker.port}",
            "HTTP_PORT" if role == "api" else "STATUS_PORT": port,
            "RATE_LIMIT_REQUESTS": "1000000",
        }
        process = Process(self._folder, role, *arguments, settings=settings)
        self._processes.append(process)
        process.start()
        return process

    def sql(self, query: str) -> list[Any]:
        return asyncio.run(fetch(self.dsn, query))

    def publish(self, name: str, count: int) -> None:
        """Events of 20 devices, each published and acknowledged by the broker."""
        bodies = [{"event_id": f"{name}{n}", "metrics": {"value": n}} for n in range(count)]
        publish(
            self.broker.port,
            [(f"devices/d{n % 20}/telemetry", json.dumps(body)) for n, body in enumerate(bodies)],
        )

    def stored(self) -> int:
        return int(self.sql("select count(*) from event")[0][0])

    def session_of(self, client_id: str) -> bool:
        """Whether the broker holds this session; the call removes it."""

        async def probe() -> bool:
            client = await RawClient.connect(self.broker.port, client_id, clean=False)
            present = client.session_present
            client.disconnect()
            (await RawClient.connect(self.broker.port, client_id)).disconnect()
            return present

        return asyncio.run(probe())

    def close(self) -> None:
        for process in self._processes:
            process.__exit__()


@pytest.fixture
def site(dsn: str) -> Iterator[Site]:
    with temporary_folder() as folder, mosquitto() as broker:
        site = Site(folder, dsn, broker)
        yield site
        site.close()


async def fetch(dsn: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


def url(process: Process) -> str:
    settings = process.settings
    return f"http://127.0.0.1:{settings.get('HTTP_PORT') or settings['STATUS_PORT']}"


def ready(process: Process) -> Process:
    process.wait_until_ok(f"{url(process)}/health")
    return process


def until(condition: Callable[[], object], process: Process) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, process.log.read_text()[-4000:]
        time.sleep(0.1)


def flows(process: Process) -> dict[str, dict[str, float]]:
    """The event counts by worker, over all doors."""
    text = plain_http.get(f"{url(process)}/metrics", timeout=30).raise_for_status().text
    found: dict[str, dict[str, float]] = {}
    for each in text_string_to_metric_families(text):
        kind = each.name.removeprefix("voltwire_events_")
        if kind in FLOW:
            for sample in each.samples:
                flow = found.setdefault(sample.labels.get("worker", ""), dict.fromkeys(FLOW, 0.0))
                flow[kind] += sample.value
    return found


def settled(process: Process, events: int) -> dict[str, dict[str, float]]:
    """The event counts once so many events were received and each has its verdict."""

    def done() -> bool:
        total = Counter[str]()
        for flow in flows(process).values():
            total.update(flow)
        return total["received"] >= events and total["in_flight"] == 0

    until(done, process)
    found = flows(process)
    for flow in found.values():
        assert flow["received"] == sum(flow[kind] for kind in FLOW[1:])
    return found


def rows(site: Site) -> list[StoredRow]:
    found = site.sql(
        "select device_id, event_id, (metrics->>'value')::float8 from event"
        " join device using (device_no) where starts_with(device_id, 'load-')"
    )
    return [StoredRow(*row) for row in found]


@contextmanager
def load(site: Site, ledger: Ledger) -> Iterator[MqttLoad]:
    """300 messages a second; some are arrays, some are sent twice."""
    composer = PayloadComposer(
        ledger, Ledger(ledger.prefix), Random(1), PayloadMix(poison=0), name="d", devices=9
    )
    with MqttLoad(site.broker.port, 300, composer, login=Login("load")) as running:
        yield running


def require_all(site: Site, ledger: Ledger, process: Process) -> None:
    until(lambda: not compare(ledger, rows(site)).lost, process)
    compare(ledger, rows(site)).require_clean()


@pytest.mark.chaos
def test_ingestors_share_the_telemetry_and_lose_nothing_when_one_dies_or_their_number_changes(
    site: Site,
) -> None:
    three = ready(site.start("ingest", "--workers", "3"))
    site.publish("e", 2000)
    shares = settled(three, 2000)
    assert site.stored() == 2000
    assert sorted(shares) == ["1", "2", "3"]
    assert all(flow["stored"] > 200 for flow in shares.values()), shares
    assert sum(flow["received"] for flow in shares.values()) == 2000, "no event arrived twice"

    ledger = Ledger("load-")
    with load(site, ledger) as running:
        running.wait(0.5)
        family(three)[1].kill()
        running.wait(0.5)
        assert plain_http.get(f"{url(three)}/health", timeout=30).status_code == 503
        ready(three)
        assert len(flows(three)) == 3
        running.wait(0.5)
        stop(three)
        site.publish("f", 600)  # A part of them waits in each session.
        alone = site.start("ingest")
        until(lambda: members(site) == ["voltwire-ingest"], alone)
        ready(alone)
    require_all(site, ledger, alone)
    assert not site.session_of("voltwire-ingest-2")
    assert not site.session_of("voltwire-ingest-3")
    before = settled(alone, 1)[""]["received"]
    site.publish("g", 100)
    assert settled(alone, int(before) + 100)[""]["received"] == before + 100, "arrived twice"

    with load(site, ledger) as running:
        running.wait(0.3)
        stop(alone)
        # As on two machines, each with one of the members.
        first = site.start("ingest", "--members", "2")
        second = ready(site.start("ingest", "--members", "2", "--first", "2"))
        ready(first)
    require_all(site, ledger, first)
    before = settled(first, 1)[""]["received"] + settled(second, 1)[""]["received"]
    site.publish("h", 300)
    until(lambda: site.stored() == 3000 + len(rows(site)), first)
    one, two = settled(first, 1)[""], settled(second, 1)[""]
    assert one["received"] + two["received"] == before + 300, "the unshared subscription has ended"
    assert two["stored"] >= 100
    assert site.sql("select count(*) from rejected")[0][0] == 0


@pytest.mark.parametrize("run", range(2))
def test_two_members_send_every_receipt(site: Site, run: int) -> None:
    """The birth of a device comes to one member, half of its telemetry to the other."""
    ready(site.start("ingest", "--workers", "2"))
    api = ready(site.start("api"))
    assert_clean(selftest(api.settings, "--events", "200", "--devices", f"{10 + run}"), 400)


def members(site: Site) -> list[str]:
    return [row[0] for row in site.sql("select client_id from ingest_member order by 1")]


def stop(process: Process) -> None:
    """SIGTERM: exit code 0 in time, and no process is left."""
    children = family(process)
    assert process.stop() == 0, process.log.read_text()[-2000:]
    assert_gone(children)


def test_two_api_workers_answer_as_one_and_one_that_is_killed_comes_back(site: Site) -> None:
    api = ready(site.start("api", "--workers", "2"))
    until(lambda: sorted(flows(api)) == ["1", "2"], api)
    with plain_http.Client(base_url=url(api), timeout=30, limits=NO_KEEP_ALIVE) as http:
        rule = {"device_id": "hot", "metric": "temp", "op": ">", "threshold": 30}
        http.post("/v1/alerts", json=rule).raise_for_status()
        with http.stream("GET", "/v1/alerts/stream?device_id=hot") as stream:
            for n in range(24):
                post(http, f"e{n}", "hot", 40)
            received = [item["data"]["event_id"] for item in take_events(stream, 24)]
        assert received == [f"e{n}" for n in range(24)]
        shares = flows(api)
        assert sum(flow["stored"] for flow in shares.values()) == 24
        assert all(flow["stored"] for flow in shares.values()), shares

        children = family(api)
        children[0].kill()
        children[0].wait()
        for n in range(6):
            post(http, f"f{n}", "cool", 20)
        until(lambda: health(http)["workers"]["status"] == "failing", api)
        until(lambda: health(http)["workers"]["status"] == "ok", api)
        for n in range(6):
            post(http, f"g{n}", "cool", 20)
    assert site.stored() == 36
    stop(api)

    api.start()
    children = family(ready(api))
    api.kill()
    assert_gone(children)


def post(http: httpx.Client, name: str, device: str, temp: float) -> None:
    body = {"event_id": name, "device_id": device, "metrics": {"temp": temp}}
    assert http.post("/v1/events", json=body).json()["status"] == "ok"


def health(http: httpx.Client) -> Any:
    return http.get("/health").json()["checks"]


def test_several_ingestors_without_shared_subscriptions_end_with_one_sentence(site: Site) -> None:
    refused = voltwire("ingest", "--workers", "2", DATABASE_URL=site.dsn)
    assert (refused.returncode, "MQTT_URL" in refused.stderr) == (2, True), refused.stderr
    port = free_port()
    settings = {"MQTT_PORT": str(port), "MQTT_URL": f"mqtt://:secret@127.0.0.1:{port}"}
    with temporary_folder() as folder, Process(folder, "broker", settings=settings) as broker:
        until(lambda: listens(port), broker)
        refused = voltwire("ingest", "--workers", "2", DATABASE_URL=site.dsn, **settings)
    assert refused.returncode == 1
    assert refused.stderr.count("does not grant $share/") == 1, refused.stderr
    assert "Traceback" not in refused.stderr


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_that_is_taken_and_members_that_cannot_be_are_misuse(site: Site) -> None:
    settings = {"DATABASE_URL": site.dsn, "HTTP_PORT": str(site.broker.port)}
    taken = voltwire("api", "--workers", "2", **settings)
    assert (taken.returncode, "change HTTP_PORT" in taken.stderr) == (1, True), taken.stderr
    assert voltwire("api", "--workers", "2").returncode == 2, "no database"
    many = voltwire("ingest", "--members", "2", "--first", "3", DATABASE_URL=site.dsn)
    assert (many.returncode, "Member 3 of 2" in many.stderr) == (2, True), many.stderr
