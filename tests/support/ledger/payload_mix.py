"""Mixed payloads for the doors, written into a ledger before they are sent."""

import json
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from tests.support.ledger.ledger import Key, Ledger

REMEMBERED_MAX = 500  # Messages that may be sent again on purpose.


@dataclass(frozen=True, slots=True)
class Mix:
    """Of 100 messages so many are arrays, deliberate repeats, poison; the others are single events."""

    arrays: int = 15
    repeats: int = 10
    poison: int = 5
    items_max: int = 10
    own_time: bool = True  # False: the event's time is that of its arrival.


@dataclass(frozen=True, slots=True)
class Message:
    """One payload for one device, and what it stands for in the ledgers."""

    device_id: str
    payload: bytes
    keys: tuple[Key, ...]
    poisons: tuple[Key, ...] = ()


class Composer:
    """Mixed payloads from a seed. Poison counts in a ledger of its own: its rows are dead letters."""

    def __init__(
        self, ledger: Ledger, poisons: Ledger, random: Random, mix: Mix, *, name: str, devices: int
    ) -> None:
        self.ledger, self.poisons = ledger, poisons
        self._random, self._mix = random, mix
        self._devices = [f"{name}{n}" for n in range(devices)]
        self._told: deque[Message] = deque(maxlen=REMEMBERED_MAX)

    def message(self) -> Message:
        mix, die = self._mix, self._random.randrange(100)
        device = self._random.choice(self._devices)
        if die < mix.poison:
            return self._poison(device)
        if die < mix.poison + mix.repeats and self._told:
            return self._random.choice(self._told)
        die -= mix.poison + mix.repeats
        items = self._random.randint(2, mix.items_max) if die < mix.arrays else 1
        events = [self.event(device) for _ in range(items)]
        bodies = [body for _, body in events]
        text = json.dumps(bodies if items > 1 else bodies[0]).encode()
        message = Message(events[0][0][0], text, tuple(key for key, _ in events))
        self._told.append(message)
        return message

    def event(self, device: str | None = None) -> tuple[Key, dict[str, Any]]:
        key, value = self.ledger.attempt(device or self._random.choice(self._devices))
        body: dict[str, Any] = {"event_id": key[1], "metrics": {"value": value}, "seq": value}
        if self._mix.own_time:
            body["timestamp"] = datetime.now(UTC).isoformat()
        return key, body

    def _poison(self, device: str) -> Message:
        """A fault of the event or of the whole text; either way the payload names it."""
        key, value = self.poisons.attempt(device)
        broken = {"event_id": key[1], "metrics": {"value": str(value)}}
        text = json.dumps(broken)
        return Message(key[0], (text if value % 2 else text[:-1]).encode(), (), (key,))
