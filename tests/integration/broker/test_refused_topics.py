"""A broker whose access list is too narrow: the log names the topic that it refused."""

import asyncio
import gc
from typing import Any

import structlog

from broker.client.session import Session
from runtime.addresses import MqttAddress
from runtime.errors import BrokerUnavailable
from tests.support.brokers.mosquitto import Mosquitto
from tests.support.brokers.mqtt import running, until
from tests.support.processes.services import temporary_folder


async def test_a_refused_publish_is_named_and_no_future_is_left_unseen() -> None:
    """Mosquitto 2.0.11 refuses the message and then cuts the connection."""
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    with temporary_folder() as folder, structlog.testing.capture_logs() as logs:
        broker = Mosquitto(folder)
        (folder / "acl").write_text("topic readwrite allowed/#\n")
        (folder / "acl").chmod(0o644)
        with (folder / "mosquitto.conf").open("a") as configuration:
            configuration.write(f"\nacl_file {folder}/acl\n")
        broker.start()
        try:
            session = Session(
                MqttAddress("127.0.0.1", broker.port), "x", subscriptions=("allowed/a",)
            )
            await _publish_until_cut_off(session, logs)
        finally:
            broker.kill()
    lost = next(line for line in logs if line["event"] == "The connection to the broker was lost.")
    assert lost["unacknowledged_topics"] == ["forbidden/topic"]
    gc.collect()
    assert unseen == []


async def _publish_until_cut_off(session: Session, logs: list[Any]) -> None:
    async with running(session):
        await until(lambda: session.connected)
        publishing = [session.publish("forbidden/topic", b"x") for _ in range(5)]
        results = await asyncio.gather(*publishing, return_exceptions=True)
        assert {type(result) for result in results} == {BrokerUnavailable}
        await until(lambda: any("unacknowledged_topics" in line for line in logs))
