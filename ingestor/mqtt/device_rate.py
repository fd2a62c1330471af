"""MQTT_RATE_LIMIT: how many events a device may send to this member.

A message above the limit is dropped whole and without a receipt: a device with an outbox sends it again.
What waited in the broker is not limited, because it arrives faster than it was sent. It ends with the first
canary that was sent on the present connection: a session keeps its order.
"""

from collections.abc import Callable
from time import monotonic

import msgspec
import structlog

from ingestor.decode.text import parse
from ingestor.mqtt.log_once import LogOnce
from runtime.rate import RateLimit
from schema.event import MAX_ITEMS

BURST_S = 10.0
LOG_EVERY_S = 60.0
DEVICES_NAMED_MAX = 1000  # Named in a minute; what further devices lose is only counted.

_read_array = msgspec.json.Decoder(list[msgspec.Raw]).decode

log = structlog.get_logger()


class DeviceRate:
    """The events of each device: `per_s` on average, and ten seconds' worth at once."""

    def __init__(
        self, per_s: float, payload_bytes_max: int, clock: Callable[[], float] = monotonic
    ) -> None:
        self._per_s, self._bytes_max, self._clock = per_s, payload_bytes_max, clock
        self._limit = RateLimit(per_s, BURST_S)
        self._log = LogOnce(LOG_EVERY_S, DEVICES_NAMED_MAX, clock)
        self._limited_generation: int | None = None

    def caught_up(self, generation: int) -> None:
        """Nothing more has waited in the broker for this connection."""
        self._limited_generation = generation

    def excess(self, device_id: str, payload: bytes, generation: int) -> int:
        """How many events are to be dropped: all of the message, or none."""
        if generation != self._limited_generation:
            return 0
        events = self._events(payload)
        if self._limit.take(device_id, events, self._clock()):
            return 0
        if self._log.due(device_id):
            log.warning(
                "A device sends more than MQTT_RATE_LIMIT allows; its messages above the limit are dropped.",
                device_id=device_id,
                events_per_s_max=self._per_s,
            )
        return events

    def _events(self, payload: bytes) -> int:
        """The number that the pipeline will count: what it rejects as a whole counts as one."""
        if len(payload) > self._bytes_max or payload.lstrip()[:1] != b"[":
            return 1
        items = _items(payload)
        return items if items <= MAX_ITEMS else 1


def _items(payload: bytes) -> int:
    """At least 1. Only what is odd takes the tolerant parser, which is slower."""
    try:
        return len(_read_array(payload)) or 1
    except (msgspec.MsgspecError, RecursionError):
        pass
    try:
        return len(parse(payload)) or 1
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001  # Not JSON, or a panic in the parser, which is no Exception.
        return 1
