"""A device with an outbox, on paho-mqtt."""

import json
import ssl
from contextlib import suppress
from queue import Empty, Queue
from time import monotonic
from typing import Any

from device import RESEND_S, Device, from_command_line, measure, statuses
from outbox import Outbox
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

TURN_S = 0.2

Receipts = Queue[list[dict[str, Any]]]


def connect(device: Device, receipts: Receipts) -> Client:
    """Paho connects in a thread of its own, and again whenever the connection is lost."""
    birth, will = statuses()
    client = Client(CallbackAPIVersion.VERSION2, device.device_id, clean_session=False)
    client.will_set(device.topic("status"), json.dumps(will), qos=1, retain=True)
    if device.secret:
        client.username_pw_set(**device.login)
    if device.broker.scheme == "mqtts":
        client.tls_set_context(ssl.create_default_context())

    def on_connect(
        _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        if reason.is_failure:
            print(f"not connected: {reason}")
            return
        client.subscribe(device.topic("receipts"), qos=1)
        client.publish(device.topic("status"), json.dumps(birth), qos=1, retain=True)

    def on_message(_client: Client, _data: Any, message: MQTTMessage) -> None:
        receipts.put(json.loads(message.payload))

    client.on_connect, client.on_message = on_connect, on_message
    client.reconnect_delay_set(1, 60)
    client.connect_async(*device.address)
    client.loop_start()
    return client


def run(device: Device) -> None:
    outbox, receipts = Outbox(device.outbox), Receipts()
    client = connect(device, receipts)
    measured, due = 0, monotonic()
    sent_at: float | None = None  # When the message that waits for its receipt was sent.
    while device.count is None or measured < device.count or outbox:
        now = monotonic()
        if now >= due and measured != device.count:
            outbox.add(*measure())
            measured, due = measured + 1, due + device.interval_s
        if outbox and client.is_connected() and (sent_at is None or now > sent_at + RESEND_S):
            client.publish(device.topic("telemetry"), json.dumps(outbox.oldest()), qos=1)
            sent_at = now
        try:
            outbox.settle(receipts.get(timeout=TURN_S))
            sent_at = None
        except Empty:
            continue
    client.disconnect()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        run(from_command_line())
