"""How paho clients log in to a broker."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


@dataclass(frozen=True, slots=True)
class Login:
    """The client id, and with authentication on the secret: the user is the client id."""

    client_id: str = ""
    secret: str | None = None

    def client(self, *, clean_session: bool = True) -> mqtt.Client:
        version = CallbackAPIVersion.VERSION2
        client = mqtt.Client(version, self.client_id, clean_session=clean_session)
        if self.secret is not None:
            client.username_pw_set(self.client_id, self.secret)
        return client


def publish(
    port: int,
    messages: Sequence[tuple[str, str | bytes]],
    *,
    login: Login = Login(),  # It is frozen.
    within_s: float = 30,
) -> None:
    """Publish with QoS 1, in order, from one client; wait for all PUBACKs."""
    client = login.client()
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        sent = [client.publish(topic, payload, qos=1) for topic, payload in messages]
        deadline = time.monotonic() + within_s
        for each in sent:
            each.wait_for_publish(max(0.01, deadline - time.monotonic()))
            assert each.is_published(), "no PUBACK"
    finally:
        client.disconnect()
        client.loop_stop()
