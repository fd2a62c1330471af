"""The part of umqtt.simple that the example calls, on paho: same names, same blocking behaviour."""

from collections.abc import Callable
from queue import Empty, Queue
from threading import Event
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

WAIT_S = 60

Callback = Callable[[bytes, bytes], object]


class MQTTClient:
    def __init__(
        self, client_id: str, server: str, port: int = 0, user: Any = None, password: Any = None,
        keepalive: int = 0,
    ) -> None:  # fmt: skip
        self._address, self._user, self._keepalive = (server, port), (user, password), keepalive
        self._client_id = client_id
        self._will: tuple[str, str, int, bool] | None = None
        self._received: Queue[MQTTMessage] = Queue()

    def set_callback(self, callback: Callback) -> None:
        self._callback = callback

    def set_last_will(self, topic: str, msg: str, retain: bool = False, qos: int = 0) -> None:  # noqa: FBT001, FBT002
        self._will = (topic, msg, qos, retain)

    def connect(self, clean_session: bool = True) -> None:  # noqa: FBT001, FBT002
        connected, subscribed = Event(), Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2, self._client_id, clean_session=clean_session
        )
        self._subscribed = subscribed
        if self._user[0]:
            self._client.username_pw_set(*self._user)
        if self._will:
            self._client.will_set(*self._will)
        self._client.on_connect = lambda *_: connected.set()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = lambda _client, _data, message: self._received.put(message)
        self._client.connect(*self._address, keepalive=self._keepalive)  # Raises OSError.
        self._client.loop_start()
        assert connected.wait(WAIT_S)

    def subscribe(self, topic: str, qos: int = 0) -> None:
        self._client.subscribe(topic, qos)
        assert self._subscribed.wait(WAIT_S)

    def publish(self, topic: str, msg: str, retain: bool = False, qos: int = 0) -> None:  # noqa: FBT001, FBT002
        self._client.publish(topic, msg, qos, retain).wait_for_publish(WAIT_S)

    def check_msg(self) -> None:
        try:
            message = self._received.get_nowait()
        except Empty:
            return
        self._callback(message.topic.encode(), bytes(message.payload))

    def disconnect(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
