"""PostgreSQL is restarted, killed, terminated, silent, locked, full and read-only under load."""

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.acceptance.chaos.conftest import (
    Installation,
    Scenario,
    install,
    rounds,
    say,
    seeded,
)
from tests.acceptance.chaos.recovery import (
    post,
    publish_more_than_a_window,
    recovery,
    require_refused_post,
    until,
    until_noticed,
)
from tests.support.brokers.mosquitto import mosquitto
from tests.support.database.postgres_server import PostgresServer, postgres_server
from tests.support.network.proxy import Direction
from tests.support.processes.services import temporary_folder

OURS = "usename = 'voltwire' and application_name like 'voltwire %'"
TERMINATE = f"select pg_terminate_backend(pid) from pg_stat_activity where {OURS}"
TERMINATE_EVERY_S = 0.2
CONNECTIONS_MAX = 40
COMMIT = b"commit\0"  # A separate query, or the end of number_and_commit.
NUMBER_AND_COMMIT = b"notify voltwire_feed;\ncommit\0"
USE_NUMBERS = (
    "do $$ begin for n in 1..100 loop perform pg_current_xact_id(); commit; end loop; end $$"
)
LOCK = "begin; lock table event in access exclusive mode; select pg_sleep({seconds}); commit"
QUIET_S = 15
QUIET_BYTES_MAX = (
    1000  # A few pings and canaries; the PUBACKs of the load would take four times as much.
)
DISK_MIB = 300


@seeded
@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_restarted_postgresql_loses_and_doubles_nothing(
    installation: Installation, scenario: Scenario
) -> None:
    modes = ["immediate", *(["fast", "immediate"] * 5)[: rounds(short=0, long=10)]]
    with (
        scenario.load(installation, mqtt=60, http=20, outbox=10),
        recovery(installation, scenario),
    ):
        for mode, pause_s in zip(modes, scenario.pauses(len(modes), 0.5, 3.0), strict=True):
            time.sleep(pause_s)
            installation.postgres.restart(mode)
    scenario.finish(installation)


@pytest.mark.chaos_short
@pytest.mark.timeout(300)
def test_without_a_database_posts_get_503_in_time_and_devices_keep_publishing(
    installation: Installation, scenario: Scenario
) -> None:
    with (
        scenario.load(installation, mqtt=60, http=5, outbox=10),
        recovery(installation, scenario),
    ):
        installation.postgres.stop()
        until_noticed(installation, "api", "ingest")
        require_refused_post(installation, scenario)
        read = installation.http.get("/v1/devices")
        assert read.status_code == httpx.codes.SERVICE_UNAVAILABLE, read.text
        key, value = scenario.ledger.attempt("meanwhile")
        body = f'{{"event_id":"{key[1]}","metrics":{{"value":{value}}}}}'
        installation.publish([(f"devices/{key[0]}/telemetry", body)], within_s=2)
        scenario.ledger.accept(key)
        installation.postgres.start()
    scenario.finish(installation)


@seeded
@pytest.mark.chaos_short
@pytest.mark.timeout(300)
def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_doubled(
    installation: Installation, scenario: Scenario
) -> None:
    """One rule fires for every event of one device, so that alerts are counted, too."""
    assert installation.postgres_proxy is not None
    alerting = f"{scenario.ledger.prefix}m0"
    rule = {"device_id": alerting, "metric": "value", "op": ">", "threshold": 0}
    response = installation.http.post("/v1/alerts", json=rule, timeout=10).raise_for_status()
    faults = [
        (COMMIT, False),
        (COMMIT, True),
        (NUMBER_AND_COMMIT, False),
        (NUMBER_AND_COMMIT, True),
    ]
    faults *= rounds(short=1, long=5)
    scenario.random.shuffle(faults)
    with scenario.load(installation, mqtt=60, http=20), recovery(installation, scenario):
        for (pattern, deliver), pause_s in zip(
            faults, scenario.pauses(len(faults), 0.2, 1.0), strict=True
        ):
            time.sleep(pause_s)
            happened = installation.postgres_proxy.reset_when(pattern, deliver=deliver)
            assert happened.wait(20), (pattern, deliver)
    scenario.finish(installation)
    alerts = installation.sql(
        "select body->>'event_id' as event_id from outbox join feed using (block)"
        " where kind = 'alert' and rule_id = $1 and body->>'state' = 'firing'",
        str(response.json()["id"]),
    )
    stored = [
        row.event_id for row in installation.rows(scenario.ledger.prefix) if row[0] == alerting
    ]
    assert sorted(row["event_id"] for row in alerts) == sorted(stored)


@seeded
@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_transaction_number_that_is_reused_after_a_crash_proves_no_commit(
    installation: Installation, scenario: Scenario
) -> None:
    """A number is unique only once its WAL is on disk: a crash makes PostgreSQL use lost numbers again."""
    postgres, link = installation.postgres, installation.postgres_proxy
    assert link is not None
    with _setting(postgres, "wal_writer_delay", "10s"):
        with scenario.load(installation, mqtt=20), recovery(installation, scenario):
            for pause_s in scenario.pauses(10, 0.2, 1.0):
                time.sleep(pause_s)
                assert link.reset_when(COMMIT, deliver=False).wait(20)
                link.refuse()
                link.reset()
                postgres.restart("immediate")
                postgres.sql(USE_NUMBERS)
                link.pass_through()
        scenario.finish(installation)


@seeded
@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_killed_postmaster_and_killed_backends_lose_and_double_nothing(
    installation: Installation, scenario: Scenario
) -> None:
    postgres = installation.postgres
    faults = ["postmaster"] * 3 + ["backends"] * 10
    scenario.random.shuffle(faults)
    with (
        scenario.load(installation, mqtt=60, http=20, outbox=10),
        recovery(installation, scenario),
    ):
        for fault, pause_s in zip(faults, scenario.pauses(13, 0.5, 3.0), strict=True):
            time.sleep(pause_s)
            if fault == "postmaster":
                postgres.kill()
                postgres.start()
            else:
                until(lambda: _kill_writers(postgres), time.monotonic() + 20, "a writer to kill")
        until(lambda: _answers(postgres), time.monotonic() + 20, "the recovery of PostgreSQL")
    scenario.finish(installation)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_connections_terminated_five_times_a_second_lose_and_double_nothing(
    installation: Installation, scenario: Scenario
) -> None:
    with (
        scenario.load(installation, mqtt=60, http=20, outbox=10),
        recovery(installation, scenario),
    ):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            installation.postgres.sql(TERMINATE)
            time.sleep(TERMINATE_EVERY_S)
    scenario.finish(installation)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_silent_link_to_postgresql_is_noticed_and_abandoned(
    installation: Installation, scenario: Scenario
) -> None:
    """No RST and no FIN arrives for a minute: each of our waits has its own limit."""
    assert installation.postgres_proxy is not None
    with scenario.load(installation, mqtt=60, http=10), recovery(installation, scenario):
        time.sleep(1)
        deadline = time.monotonic() + 60
        installation.postgres_proxy.blackhole()
        until_noticed(installation, "api", "ingest")
        while time.monotonic() < deadline:
            require_refused_post(installation, scenario)
            time.sleep(2)
        installation.postgres_proxy.pass_through()
    scenario.finish(installation)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_while_the_table_is_locked_nothing_is_acknowledged_and_memory_stays_flat(
    installation: Installation, scenario: Scenario
) -> None:
    """The broker delivers a window of messages, and then waits for PUBACKs that do not come."""
    assert installation.broker_proxy is not None
    passed = installation.broker_proxy.passed_bytes
    lock = LOCK.format(seconds=30)
    locking = threading.Thread(target=installation.postgres.sql, args=(lock,))
    with scenario.load(installation, mqtt=60, http=2, outbox=10), recovery(installation, scenario):
        time.sleep(1)
        locking.start()
        publish_more_than_a_window(installation, scenario)
        time.sleep(5)  # By then the window is full.
        keys, before = _keys(installation), passed.copy()
        time.sleep(QUIET_S)
        assert _keys(installation) == keys
        for direction in Direction:
            assert passed[direction] - before[direction] < QUIET_BYTES_MAX, direction
        require_refused_post(installation, scenario)
        installation.require_flat_memory()
        locking.join()
    scenario.finish(installation)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_full_disk_refuses_posts_and_loses_nothing(scenario: Scenario) -> None:
    """PostgreSQL exits when the disk has no room for its WAL; then the operator starts it again."""
    with _small_disk() as disk, _installation_on(disk) as installation:
        filler = disk / "filler"
        with (
            scenario.load(installation, mqtt=100, http=10, outbox=10),
            recovery(installation, scenario),
        ):
            time.sleep(1)
            _fill(filler)
            refused = _posts_until_refused(installation, scenario)
            for _ in range(4):
                refused += _is_refused(installation, scenario)
                time.sleep(1)
            assert refused > 1
            filler.unlink()
            ended = not installation.postgres.runs
            if ended:
                installation.postgres.start()
            say(f"refused {refused} posts, PostgreSQL {'ended' if ended else 'stayed'}")
            until(
                lambda: _answers(installation.postgres), time.monotonic() + 20, "PostgreSQL answers"
            )
        scenario.finish(installation)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_without_a_free_connection_roles_wait_and_lose_nothing(scenario: Scenario) -> None:
    with install(postgres_options={"max_connections": str(CONNECTIONS_MAX)}) as installation:
        with (
            scenario.load(installation, mqtt=60, http=10, outbox=10),
            recovery(installation, scenario),
        ):
            time.sleep(1)
            held = asyncio.run(_hold_all_connections(installation.postgres.superuser_dsn, 20))
        assert held >= CONNECTIONS_MAX - 2, "our roles had no connection most of the time"
        scenario.finish(installation)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_read_only_database_is_a_temporary_fault(
    installation: Installation, scenario: Scenario
) -> None:
    postgres = installation.postgres
    with (
        scenario.load(installation, mqtt=60, http=10, outbox=10),
        recovery(installation, scenario),
    ):
        time.sleep(1)
        with _setting(postgres, "default_transaction_read_only", "on"):
            postgres.sql(TERMINATE)
            deadline = time.monotonic() + 15
            time.sleep(2)
            while time.monotonic() < deadline:
                require_refused_post(installation, scenario)
                time.sleep(1)
    scenario.finish(installation)
    assert not installation.dead_letters(scenario.ledger.prefix + "probe")


@contextmanager
def _setting(postgres: PostgresServer, name: str, value: str) -> Iterator[None]:
    postgres.sql(f"alter system set {name} = '{value}'")
    postgres.sql("select pg_reload_conf()")
    try:
        yield
    finally:
        postgres.sql(f"alter system reset {name}")
        postgres.sql("select pg_reload_conf()")


def _kill_writers(postgres: PostgresServer) -> bool:
    """Kill the backends of writers; False while PostgreSQL still recovers from the previous kill."""
    try:
        return postgres.kill_backends("voltwire % writer %") > 0
    except OSError:
        return False


def _answers(postgres: PostgresServer) -> bool:
    try:
        return postgres.sql("select 1") == ["1"]
    except OSError:
        return False


def _keys(installation: Installation) -> int:
    """The number of committed event keys; their table is not locked."""
    return int(installation.postgres.sql("select count(*) from event_key")[0])


async def _hold_all_connections(dsn: str, seconds: float) -> int:
    """Terminate our connections and let superuser sessions take every free slot."""
    first = await asyncpg.connect(dsn)
    held, deadline = [first], time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            await first.execute(TERMINATE)
            try:
                while True:
                    held.append(await asyncpg.connect(dsn))
            except asyncpg.TooManyConnectionsError:
                await asyncio.sleep(TERMINATE_EVERY_S)
        return len(held)
    finally:
        for connection in held:
            connection.terminate()


@contextmanager
def _small_disk() -> Iterator[Path]:
    """Mount a separate tmpfs; without permission the test is skipped, and fails in CI."""
    with temporary_folder() as folder:
        options = f"size={DISK_MIB}m,mode=755"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        result = subprocess.run(mount, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            reason = f"A full disk needs a tmpfs, but mount failed: {result.stderr.strip()}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def _installation_on(disk: Path) -> Iterator[Installation]:
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        options = {"max_wal_size": "64MB"}
        postgres = stack.enter_context(postgres_server(options, folder=disk))
        broker = stack.enter_context(mosquitto())
        installation = Installation(folder, postgres, broker)
        stack.callback(installation.close)
        installation.prepare()
        for role in ("ingest", "api", "schedule"):
            installation.add(role)
        installation.warm_up()
        yield installation


def _fill(filler: Path) -> None:
    """Write until the disk is full."""
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024 * 1024))
        except OSError:
            pass


def _is_refused(installation: Installation, scenario: Scenario) -> bool:
    _, response = post(installation, scenario)
    if response.status_code == httpx.codes.OK:
        return False
    assert response.status_code == httpx.codes.SERVICE_UNAVAILABLE, response.text
    assert int(response.headers["Retry-After"]) > 0
    return True


def _posts_until_refused(installation: Installation, scenario: Scenario) -> int:
    """Post until the first refusal; events are still stored while existing files have room."""
    until(lambda: _is_refused(installation, scenario), time.monotonic() + 60, "a full disk")
    return 1
