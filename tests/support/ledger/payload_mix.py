"""Mixed payloads, recorded in a ledger before they are sent."""

import json
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from tests.support.ledger.ledger import Key, Ledger

RECENT_MAX = 500  # Messages that may be repeated on purpose.


@dataclass(frozen=True, slots=True)
class PayloadMix:
    """How many of 100 messages are arrays, deliberate repeats or poison; the others are single events."""

    arrays: int = 15
    repeats: int = 10
    poison: int = 5
    items_max: int = 10
    own_time: bool = True  # False: the event's time is its time of arrival.


@dataclass(frozen=True, slots=True)
class ComposedMessage:
    """One payload for one device, and its keys in the ledgers."""

    device_id: str
    payload: bytes
    keys: tuple[Key, ...]
    poisons: tuple[Key, ...] = ()


class PayloadComposer:
    """Mixed payloads from a seed. Poison has a separate ledger, whose rows are dead letters."""

    def __init__(
        self,
        ledger: Ledger,
        poisons: Ledger,
        random: Random,
        mix: PayloadMix,
        *,
        name: str,
        devices: int,
    ) -> None:
        self.ledger, self.poisons = ledger, poisons
        self._random, self._mix = random, mix
        self._devices = [f"{name}{n}" for n in range(devices)]
        self._recent: deque[ComposedMessage] = deque(maxlen=RECENT_MAX)

    def message(self) -> ComposedMessage:
        mix, die = self._mix, self._random.randrange(100)
        device = self._random.choice(self._devices)
        if die < mix.poison:
            return self._poison(device)
        if die < mix.poison + mix.repeats and self._recent:
            return self._random.choice(self._recent)
        die -= mix.poison + mix.repeats
        items = self._random.randint(2, mix.items_max) if die < mix.arrays else 1
        events = [self.event(device) for _ in range(items)]
        bodies = [body for _, body in events]
        text = json.dumps(bodies if items > 1 else bodies[0]).encode()
        message = ComposedMessage(events[0][0][0], text, tuple(key for key, _ in events))
        self._recent.append(message)
        return message

    def event(self, device: str | None = None) -> tuple[Key, dict[str, Any]]:
        key, value = self.ledger.attempt(device or self._random.choice(self._devices))
        body: dict[str, Any] = {"event_id": key[1], "metrics": {"value": value}, "seq": value}
        if self._mix.own_time:
            body["timestamp"] = datetime.now(UTC).isoformat()
        return key, body

    def _poison(self, device: str) -> ComposedMessage:
        """An invalid event or invalid JSON; either way the payload contains the event id."""
        key, value = self.poisons.attempt(device)
        broken = {"event_id": key[1], "metrics": {"value": str(value)}}
        text = json.dumps(broken)
        return ComposedMessage(key[0], (text if value % 2 else text[:-1]).encode(), (), (key,))
