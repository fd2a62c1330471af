"""With Mosquitto as a process of its own: whatever got a PUBACK is stored exactly once."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.acceptance.conftest import base_url, running_up, stored
from tests.support.brokers.mosquitto import Mosquitto, mosquitto
from tests.support.http import plain_http
from tests.support.processes.services import Process, assert_gone, family

DEVICES = 7
ANSWER_S_MAX, VISIBLE_S_MAX = 60, 60


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with mosquitto() as broker:
        yield broker


@pytest.fixture
def up(broker: Mosquitto, data_folder: Path) -> Iterator[Process]:
    with running_up(data=data_folder, MQTT_URL=f"mqtt://127.0.0.1:{broker.port}") as process:
        yield process


class Publisher:
    """Publishes as fast as PUBACKs come, from a thread; fewer messages than there are packet ids."""

    def __init__(self, port: int) -> None:
        self._names: dict[int, str] = {}
        self._pubacks: set[int] = set()
        self._stop = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_publish = lambda _c, _u, mid, _r, _p: self._pubacks.add(mid)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def sent(self) -> int:
        return len(self._names)

    @property
    def acknowledged(self) -> set[str]:
        return {self._names[mid] for mid in self._pubacks}

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        deadline = time.monotonic() + ANSWER_S_MAX
        while len(self._pubacks) < self.sent and time.monotonic() < deadline:
            time.sleep(0.02)
        self._client.disconnect()
        self._client.loop_stop()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self.sent - len(self._pubacks) < 200:
                name = f"m{self.sent}"
                payload = json.dumps({"event_id": name, "metrics": {"value": self.sent}})
                topic = f"devices/d{self.sent % DEVICES}/telemetry"
                self._names[self._client.publish(topic, payload, qos=1).mid] = name
            time.sleep(0.0005)


@pytest.mark.chaos
def test_kill_9_in_mid_stream_loses_nothing_that_got_a_puback(
    broker: Mosquitto, up: Process
) -> None:
    publisher = Publisher(broker.port)
    for pause in (0.4, 0.7, 1.1):
        time.sleep(pause)
        children = family(up)
        up.kill()
        assert_gone(children)
        up.start()
        up.wait_until_ok(f"{base_url(up)}/health")
    publisher.stop()
    found: Counter[str] = Counter()
    deadline = time.monotonic() + VISIBLE_S_MAX
    while publisher.acknowledged - found.keys() and time.monotonic() < deadline:
        time.sleep(0.3)
        found = Counter()
        for n in range(DEVICES):
            found.update(stored(base_url(up), f"d{n}"))
    assert len(publisher.acknowledged) > 300
    assert not publisher.acknowledged - found.keys(), "lost"
    assert not [name for name, count in found.items() if count > 1], "doubled"
    assert len(found) <= publisher.sent


def test_a_broker_restart_with_an_empty_store_gets_its_retained_messages_back(
    broker: Mosquitto, up: Process
) -> None:
    url = base_url(up)
    rule = {"metric": "temp", "op": ">", "threshold": 30}
    plain_http.post(f"{url}/v1/alerts", json=rule).raise_for_status()
    hot = {"event_id": "1", "device_id": "hot", "metrics": {"temp": 40}}
    plain_http.post(f"{url}/v1/events", json=hot).raise_for_status()
    topics = {"alerts/hot/r1", "presence/hot"}
    assert retained(broker.port, topics) == topics
    broker.kill()
    broker.lose_state()
    broker.start()
    assert retained(broker.port, topics, within_s=VISIBLE_S_MAX) == topics
    cool = {"event_id": "2", "device_id": "hot", "metrics": {"temp": 20}}
    plain_http.post(f"{url}/v1/events", json=cool).raise_for_status()
    deadline = time.monotonic() + ANSWER_S_MAX
    while (
        "alerts/hot/r1" in retained(broker.port, topics, within_s=0.5)
        and time.monotonic() < deadline
    ):
        pass
    assert retained(broker.port, topics, within_s=0.5) == {"presence/hot"}


def retained(port: int, wanted: set[str], within_s: float = ANSWER_S_MAX) -> set[str]:
    """Which of the wanted topics hold a retained message."""
    found: set[str] = set()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _c, _u, message: found.add(message.topic)
    client.connect("127.0.0.1", port)
    client.subscribe([("alerts/#", 1), ("presence/#", 1)])
    client.loop_start()
    deadline = time.monotonic() + within_s
    while not wanted <= found and time.monotonic() < deadline:
        time.sleep(0.02)
    client.disconnect()
    client.loop_stop()
    return found
