"""A connection on which nothing arrives is not taken for a quiet fleet."""

from typing import Any, cast

import pytest

from broker.client.session import Session
from ingestor.mqtt.canary import SILENT_S_MAX, CanaryMonitor
from ingestor.pipeline import Pipeline
from runtime.health import Health


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Stubs:
    """A session and a pipeline as far as the canary monitor looks at them."""

    def __init__(self) -> None:
        self.connected, self.idle, self.reconnects = True, True, 0

    def reconnect(self) -> None:
        self.reconnects += 1


class Listener:
    def __init__(self) -> None:
        self.stubs, self.clock, self.health = Stubs(), Clock(), Health(("broker",))
        pipeline, self.session = cast("Pipeline", self.stubs), cast("Session", self.stubs)
        self.canary = CanaryMonitor("", "test", pipeline, self.health, topic="t", clock=self.clock)
        self.canary._session = self.session

    def after(self, seconds: float) -> int:
        """Look again every two seconds for so long; how often the connection was given up in all."""
        for _ in range(int(seconds / 2)):
            self.clock.now += 2
            self.canary._reconnect_if_silent(self.session)
        return self.stubs.reconnects


@pytest.fixture
def listener() -> Listener:
    return Listener()


def test_a_silent_connection_is_given_up_and_the_next_one_gets_as_long(listener: Listener) -> None:
    assert listener.after(SILENT_S_MAX) == 0
    assert listener.after(4) == 1
    assert listener.after(SILENT_S_MAX - 4) == 1
    assert listener.after(8) == 2


def test_every_message_ends_the_silence(listener: Listener) -> None:
    for _ in range(10):
        listener.after(SILENT_S_MAX - 2)
        listener.canary.on_delivery()
    assert listener.stubs.reconnects == 0


@pytest.mark.parametrize("why", ["connected", "idle"])
def test_without_connection_or_with_a_full_window_silence_means_nothing(
    listener: Listener, why: str
) -> None:
    setattr(listener.stubs, why, False)
    assert listener.after(10 * SILENT_S_MAX) == 0
    setattr(listener.stubs, why, True)
    assert listener.after(SILENT_S_MAX) == 0


def test_a_granted_subscription_is_not_called_ok_before_something_arrived(
    listener: Listener,
) -> None:
    listener.canary._report()
    assert not listener.health.ok
    assert "nothing was delivered" in document(listener)["detail"]
    listener.canary.on_delivery()
    assert listener.health.ok
    assert document(listener) == {"status": "ok", "detail": "subscribed"}


def document(listener: Listener) -> Any:
    return listener.health.document("1")["checks"]["broker"]
