"""`voltwire up` with authentication on: devices log in at the embedded broker, strangers do not."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import asyncpg
import psutil
import pytest

from runtime.postgres.server import running_postgres
from schema.access.audit import COMMAND
from schema.access.credentials import create, list_in_force, revoke
from schema.access.secrets import CredentialKind
from schema.database import Connection
from tests.acceptance.conftest import running_up
from tests.support.brokers.mqtt import CONNACK, Peer, RawClient, connect_packet
from tests.support.processes.services import Process, clean_environment, family

EVENT = b'{"event_id":"e1","metrics":{"temp":21.5}}'
BIRTH = b'{"state":"online","receipts":true}'
WITHIN_S = 60

T = TypeVar("T")


@pytest.fixture(scope="module")
def up(data_folder: Path) -> Iterator[Process]:
    with running_up(data=data_folder, AUTH="on", MQTT_RATE_LIMIT="2") as process:
        yield process


def mqtt_port(up: Process) -> int:
    return int(up.settings["MQTT_PORT"])


async def in_database(up: Process, work: Callable[[Connection], Awaitable[T]]) -> T:
    dsn = running_postgres(up.folder / up.settings["DATA_DIR"])
    assert dsn is not None
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            return await work(connection)
    finally:
        await connection.close()


async def make_device(up: Process, device_id: str) -> str:
    secret = await in_database(up, lambda db: create(db, COMMAND, CredentialKind.DEVICE, device_id))
    assert secret is not None
    return secret


async def login_code(up: Process, client_id: str, password: str | None) -> int:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", mqtt_port(up)))
    peer.send(connect_packet(client_id, password=password))
    packet = await peer.packet()
    peer.drop()
    assert packet is not None
    assert packet[0] >> 4 == CONNACK
    return packet[1][1]


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await condition():  # noqa: ASYNC110  # Of another process.
            await asyncio.sleep(0.05)


async def until_known(up: Process, device_id: str, secret: str) -> None:
    async def known() -> bool:
        with suppress(OSError):
            return await login_code(up, device_id, secret) == 0
        return False

    await eventually(known)


async def until_canaries_return(up: Process) -> None:
    seen = set()

    async def several() -> bool:
        seen.add(
            await in_database(up, lambda db: db.fetchval("select max(received_at) from canary"))
        )
        return len(seen) > 2

    await eventually(several)


async def device(up: Process, device_id: str, secret: str) -> RawClient:
    """Connected, with receipts on."""
    client = await RawClient.connect(mqtt_port(up), device_id, password=secret, clean=False)
    await client.subscribe(f"devices/{device_id}/receipts")
    await client.publish(f"devices/{device_id}/status", BIRTH)
    return client


async def test_a_device_publishes_with_its_secret_gets_a_receipt_and_is_cut_off_when_revoked(
    up: Process,
) -> None:
    secret = await make_device(up, "own")
    await until_known(up, "own", secret)
    client = await device(up, "own", secret)
    await client.publish("devices/own/telemetry", EVENT)
    assert b'"stored"' in (await client.message(WITHIN_S)).payload
    assert await login_code(up, "own", f"{secret}x") == 5
    assert await login_code(up, "own", None) == 5
    assert await login_code(up, "voltwire-ingest", secret) == 5
    await in_database(up, lambda db: revoke(db, COMMAND, ["own"]))
    assert await client.closed(5)  # The promise of the documents.
    assert await login_code(up, "own", secret) == 5


async def test_a_broker_that_was_killed_knows_every_device_again(up: Process) -> None:
    secret = await make_device(up, "again")
    await until_known(up, "again", secret)
    [broker] = [each for each in family(up) if "broker" in each.cmdline()]
    broker.kill()
    psutil.wait_procs([broker], timeout=WITHIN_S)
    await until_known(up, "again", secret)


async def test_a_device_above_its_rate_gets_receipts_only_for_what_is_within(up: Process) -> None:
    secret = await make_device(up, "fast")
    await until_known(up, "fast", secret)
    await until_canaries_return(
        up
    )  # What waited in the broker is not limited, and it was just killed.
    client = await device(up, "fast", secret)
    for n in range(
        30
    ):  # Enough for five minutes: the busiest machine does not stay below the rate.
        events = b",".join(b'{"event_id":"%d-%d","metrics":{"x":1}}' % (n, i) for i in range(20))
        await client.publish("devices/fast/telemetry", b"[%b]" % events, qos=0)
    receipt = (await client.message(WITHIN_S)).payload
    assert receipt.startswith(b'[{"event_id":"0-0"')
    stored = await in_database(up, _stored_of_fast)
    assert stored % 20 == 0
    assert 20 <= stored < 600
    client.disconnect()


async def test_the_demo_logs_its_devices_in_and_revokes_them_at_the_end(data_folder: Path) -> None:
    with running_up("--demo", data=data_folder, AUTH="on", MAX_EVENT_AGE_DAYS="1") as demo:

        async def are_live() -> bool:
            written = "events are stored after" in demo.log.read_text()
            return written and await in_database(demo, _online_devices) >= 16

        await eventually(are_live)
        assert len(await in_database(demo, _logins)) == 20
        assert (await asyncio.to_thread(pasted, demo)).endswith('{"status":"ok"}')
        assert await asyncio.to_thread(demo.stop) == 0
        assert "Traceback" not in demo.log.read_text()
        assert "was refused" not in demo.log.read_text()  # No login came before the broker knew it.
        with Process(demo.folder, "up", settings=demo.settings) as again:
            again.wait_until_ok(f"http://127.0.0.1:{again.settings['HTTP_PORT']}/live")
            assert await in_database(again, _logins) == []


def pasted(demo: Process) -> str:
    """What the commands of the demo print, but for the one that watches until Ctrl-C."""
    shown = demo.log.read_text().partition("in another terminal:\n")[2].splitlines()[:4]
    make_key, watch, *queries = [line.strip() for line in shown]
    assert " watch --url " in watch
    return subprocess.run(
        ["bash", "-c", "\n".join([make_key, *queries])],
        env=clean_environment(demo.settings), cwd=demo.folder, capture_output=True, text=True,
        check=True, timeout=WITHIN_S,
    ).stdout  # fmt: skip


async def _online_devices(db: Connection) -> int:
    return int(await db.fetchval("select count(*) from presence where state = 'online'"))


async def _stored_of_fast(db: Connection) -> int:
    query = "select count(*) from event join device using (device_no) where device_id = 'fast'"
    return int(await db.fetchval(query))


async def _logins(db: Connection) -> list[str]:
    return [each.name for each in await list_in_force(db, [CredentialKind.DEVICE])]
