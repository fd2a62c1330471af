"""How a session chooses the MQTT version, connects, notices a silent broker and disconnects."""

import asyncio
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import structlog
import uvloop
from aiomqtt import ProtocolVersion

from broker.client import connection
from broker.client.delivery import Delivery
from broker.client.session import Session
from broker.client.version_choice import VersionChoice
from broker.wire import PacketType
from runtime.addresses import MqttAddress
from runtime.errors import StartError
from tests.support.brokers.mosquitto import Mosquitto, mosquitto, require_mosquitto
from tests.support.brokers.mqtt import FILTERS, TOPIC, Ingest, embedded_broker, running, send, until
from tests.support.brokers.scripted_broker import accept, numbered, scripted_broker

pytestmark = pytest.mark.slow


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    require_mosquitto()
    with mosquitto() as broker:
        yield broker


async def test_a_connection_that_falls_silent_is_noticed_within_two_keepalives(
    broker: Mosquitto,
) -> None:
    ingest = Ingest(broker.port, keepalive_s=2)
    async with running(ingest.session):
        await until(lambda: ingest.session.connected)
        with broker.frozen():
            frozen_at = monotonic()
            await until(lambda: not ingest.session.connected)
            assert monotonic() - frozen_at < 15  # A busy machine delays both sides.
        await until(lambda: ingest.session.connected)


async def test_mqtt_5_is_spoken_where_the_broker_can(broker: Mosquitto) -> None:
    with structlog.testing.capture_logs() as logs:
        ingest = Ingest(broker.port)
        async with running(ingest.session):
            await until(lambda: ingest.session.connected)
    assert [log["version"] for log in logs if "version" in log] == ["V5"]


async def test_an_older_broker_that_refuses_mqtt_5_gets_3_1_1_at_once() -> None:
    async with embedded_broker() as port:
        ingest = Ingest(port)
        with structlog.testing.capture_logs() as logs:
            async with running(ingest.session):
                await until(lambda: ingest.session.connected)
                await send(port, b"1")
                await until(lambda: ingest.got)
    assert [log["version"] for log in logs if "version" in log] == ["V311"]
    assert not [log for log in logs if "retry_in_s" in log]


async def test_the_embedded_address_is_spoken_to_in_3_1_1_straight_away() -> None:
    async with scripted_broker() as broker:
        address = replace(MqttAddress("127.0.0.1", broker.port), embedded=True)
        session = Session(address, "x")
        async with running(session):
            await until(lambda: session.connected)
        assert broker.levels == [4]


async def test_a_broker_that_closes_on_mqtt_5_gets_3_1_1_after_a_second_attempt() -> None:
    async with scripted_broker(lambda level: accept(4) if level == 4 else None) as broker:
        ingest = Ingest(broker.port)
        async with running(ingest.session):
            await until(lambda: ingest.session.connected)
            broker.peers[-1].drop()
            await until(lambda: len(ingest.connections) == 2)
        assert broker.levels == [5, 4, 5, 4, 4]


async def test_a_stop_that_comes_together_with_connack_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop = asyncio.Event()
    on_connack = connection.Connection._on_connack

    def stop_at_connack(self: connection.Connection, *arguments: Any) -> None:
        on_connack(self, *arguments)
        stop.set()

    monkeypatch.setattr(connection.Connection, "_on_connack", stop_at_connack)
    async with scripted_broker() as broker, asyncio.timeout(30):
        address = replace(MqttAddress("127.0.0.1", broker.port), embedded=True)
        await Session(address, "x").run(stop)


async def test_one_lost_connection_does_not_make_it_fall_back() -> None:
    faults = iter([None])
    async with scripted_broker(lambda level: next(faults, accept(level))) as broker:
        ingest = Ingest(broker.port)
        async with running(ingest.session):
            await until(lambda: ingest.session.connected)
        assert broker.levels == [5, 4, 5]


async def test_a_broker_that_keeps_silent_is_left_for_another_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "ANSWER_S_MAX", 1)
    faults = iter([b""])
    async with scripted_broker(lambda level: next(faults, accept(level))) as broker:
        ingest = Ingest(broker.port)
        async with running(ingest.session):
            await until(lambda: ingest.session.connected)
        assert broker.levels == [5, 4, 5]
        assert len(broker.peers) == 3


def test_a_final_version_stays_whatever_happens() -> None:
    choice = VersionChoice()
    assert choice.accepted()
    for _ in range(3):
        choice.silent()
        assert choice.next is ProtocolVersion.V5
    choice.refused()
    assert choice.next is ProtocolVersion.V311


async def test_refused_credentials_are_an_error_and_retried_slowly() -> None:
    async with scripted_broker(lambda _: b"\x20\x03\0\x86\0") as broker:
        ingest = Ingest(broker.port)
        with structlog.testing.capture_logs() as logs:
            async with running(ingest.session):
                await until(lambda: [log for log in logs if log["log_level"] == "error"])
                await asyncio.sleep(1.2)
        (log,) = (log for log in logs if log["log_level"] == "error")
        assert "user name or password" in log["reason"]
        assert log["retry_in_s"] > 7
        assert broker.levels == [5]


async def test_a_subscription_that_is_not_granted_is_no_connection() -> None:
    async with scripted_broker() as broker:
        broker.granted = b"\x87"
        ingest = Ingest(broker.port)
        with structlog.testing.capture_logs() as logs:
            async with running(ingest.session):
                await until(lambda: logs)
                assert not ingest.session.connected
        assert "does not grant QoS 1 for devices/+/telemetry" in logs[0]["reason"]


async def test_stopping_leaves_while_no_broker_answers() -> None:
    async with scripted_broker(lambda _: b"") as broker:
        ingest = Ingest(broker.port)
        async with running(ingest.session):
            await until(lambda: broker.levels)
            stopped_at = monotonic()
        assert monotonic() - stopped_at < 4  # It would wait 5 s for an answer.


def test_it_runs_on_uvloop(broker: Mosquitto) -> None:
    async def story() -> list[bytes]:
        ingest = Ingest(broker.port)
        async with running(ingest.session):
            await until(lambda: ingest.session.connected)
            for number in range(100):
                await ingest.session.publish(TOPIC, str(number).encode())
            await until(lambda: len(ingest.got) == 100)
            ingest.session.settle(ingest.got)
        return ingest.payloads

    assert uvloop.run(story()) == [str(number).encode() for number in range(100)]


def test_a_reset_behind_unread_messages_is_noticed_at_once_on_uvloop() -> None:
    """After an error uvloop calls back once, so that call must notice the reset."""
    listener = socket.create_server(("127.0.0.1", 0))
    flooding, flooded = threading.Event(), threading.Event()

    def serve() -> None:
        peer, _ = listener.accept()
        peer.recv(1000)
        peer.sendall(accept(5))
        flooding.wait()
        peer.sendall(numbered(1) * 10_000)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        flooded.set()

    async def story() -> float:
        session = Session(MqttAddress("127.0.0.1", listener.getsockname()[1]), "x")
        async with running(session):
            await until(lambda: session.connected)
            flooding.set()
            flooded.wait()  # This blocks the loop.
            started_at = monotonic()
            await until(lambda: not session.connected)
            return monotonic() - started_at

    with listener, ThreadPoolExecutor() as threads:
        threads.submit(serve)
        assert uvloop.run(story()) < 10  # Keep-alives would notice it after 15 s.


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate of localhost and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed.")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
        f" -addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    return certificate, key


async def test_it_speaks_tls_and_checks_the_certificate(certificate: tuple[Path, Path]) -> None:
    async with scripted_broker(certificate=certificate) as broker:
        address = MqttAddress("localhost", broker.port, tls=True, ca_file=certificate[0])
        got: list[Delivery] = []
        session = Session(address, "x", subscriptions=FILTERS, on_delivery=got.append)
        async with running(session):
            await until(lambda: session.connected)
            broker.peers[0].send(numbered(*range(1, 1001)))
            await until(lambda: len(got) == 1000)
            session.settle(got)
            await until(lambda: len(broker.bodies(PacketType.PUBACK)) == 1000)

        untrusting = Session(replace(address, ca_file=None), "x")
        with structlog.testing.capture_logs() as logs:
            async with running(untrusting):
                await until(lambda: logs)
        assert "CERTIFICATE_VERIFY_FAILED" in logs[0]["reason"]
        assert untrusting.trouble.startswith("does not pass the checks of TLS")


def test_certificates_that_cannot_be_read_are_named_at_the_start() -> None:
    address = MqttAddress("localhost", 8883, tls=True, ca_file=Path("missing.pem"))
    with pytest.raises(StartError, match="MQTT_CA_FILE"):
        Session(address, "x")
