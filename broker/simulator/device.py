"""What simulated battery devices measure and how they fail.

This module is pure: time and randomness are arguments. broker/simulator/fleet.py does the I/O.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from pydantic_core import to_json

from broker.simulator.outbox import EventOutbox, read_receipts
from schema.instants import rfc3339

ROOMS = 12

# A pack of 400 V and 12.5 Ah, under a load that makes a full cycle of charge last 20 minutes.
CAPACITY_AH = 12.5
STEPS_MAX = 4  # The most steps for one event.
STEP_S_MAX = (
    60.0  # A longer pause counts as this much, so that values do not jump; more in a larger pack.
)
SOC_EMPTY, SOC_FULL, SOC_TAPER = 15.0, 95.0, 80.0
LOAD_A_MIN, LOAD_A_MAX, CHARGE_A, RIPPLE_A = 30.0, 80.0, 50.0, 8.0
CURRENT_LAG_S, TEMP_LAG_S = 15.0, 120.0
AMBIENT_C_MIN, AMBIENT_C_MAX = 15.0, 30.0
VOLTAGE_V_EMPTY, VOLT_PER_PERCENT, RESISTANCE_OHM, KELVIN_PER_A2 = 320.0, 0.85, 0.08, 0.0025
OVERHEATING_K, VOLTAGE_DROP_V = 45.0, 110.0  # What the two faults of a pack do to it.


@dataclass(frozen=True, slots=True)
class Spell:
    """Something that happens again and again. Times are seconds since the boot, also before it."""

    first_s: float
    every_s: float
    lasts_s: float

    def covers(self, at_s: float) -> bool:
        return self._since_start_s(at_s) < self.lasts_s

    def remaining_s(self, at_s: float) -> float:
        """0 outside."""
        return max(0.0, self.lasts_s - self._since_start_s(at_s))

    def next_in_s(self, at_s: float) -> float:
        return self.every_s - self._since_start_s(at_s)

    def _since_start_s(self, at_s: float) -> float:
        return (at_s - self.first_s) % self.every_s


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one device behaves. `skew_s_max` limits the error of its clock in both directions.

    The device itself loses `forgotten_percent` of its events: their `seq` is missing. While `dead`, it
    neither measures nor is connected, and it left without a status.
    """

    interval_s: float = 5.0
    loss_percent: float = 0.0
    duplicate_percent: float = 0.0
    skew_s_max: float = 0.0
    sleep_s: float = 0.0
    forgotten_percent: float = 0.0
    capacity_ah: float = CAPACITY_AH
    dead: Spell | None = None
    overheating: Spell | None = None
    voltage_drop: Spell | None = None
    tags: tuple[str, ...] = ()  # The tags of each event, beside its room.


class Battery:
    """State of charge, voltage, current and temperature, which are consistent and change smoothly."""

    def __init__(self, random: Random, capacity_ah: float = CAPACITY_AH) -> None:
        self._random, self._capacity_as = random, capacity_ah * 3600
        self.step_s_max = STEP_S_MAX * capacity_ah / CAPACITY_AH
        self._soc = random.uniform(SOC_EMPTY, SOC_FULL)
        self._charging = random.choice((True, False))
        self._load_a = random.uniform(LOAD_A_MIN, LOAD_A_MAX)
        self._ambient_c = random.uniform(AMBIENT_C_MIN, AMBIENT_C_MAX)
        self._current_a, self._temp_c = self._target_a(), self._ambient_c

    def step(
        self, elapsed_s: float, *, overheats: bool = False, drops: bool = False
    ) -> dict[str, float]:
        """Advance the time and measure. The two faults concern temperature and voltage.

        1. The current follows the demand of the load or the charger.
        2. The charge follows the current; at its limits the direction reverses.
        3. The temperature follows the losses; the voltage follows charge and current.
        """
        step_s = min(elapsed_s, self.step_s_max)
        target_a = self._target_a() + self._random.uniform(-RIPPLE_A, RIPPLE_A)
        self._current_a += (target_a - self._current_a) * _approach(step_s, CURRENT_LAG_S)
        charge = self._soc + 100 * self._current_a * step_s / self._capacity_as
        self._soc = min(max(charge, 0.0), 100.0)
        if not SOC_EMPTY < self._soc < SOC_FULL:
            self._charging = self._soc <= SOC_EMPTY
        settled_c = self._ambient_c + KELVIN_PER_A2 * self._current_a**2 + OVERHEATING_K * overheats
        self._temp_c += (settled_c - self._temp_c) * _approach(step_s, TEMP_LAG_S)
        return {
            "soc_percent": round(self._soc, 2),
            "voltage_v": round(self._voltage_v() - VOLTAGE_DROP_V * drops, 1),
            "current_a": round(self._current_a, 1),
            "temp_c": round(self._temp_c, 1),
        }

    def _target_a(self) -> float:
        """Negative while the pack discharges; a charger reduces it when the pack is nearly full."""
        if not self._charging:
            return -self._load_a
        return CHARGE_A * min(1.0, (100 - self._soc) / (100 - SOC_TAPER))

    def _voltage_v(self) -> float:
        return VOLTAGE_V_EMPTY + VOLT_PER_PERCENT * self._soc + RESISTANCE_OHM * self._current_a


class BatteryDevice:
    """One simulated device. Its event ids are `<boot>-<counter>`, so that their keys grow."""

    def __init__(
        self, device_id: str, behaviour: Behaviour, booted_at: datetime, random: Random
    ) -> None:
        self.device_id, self.behaviour, self.booted_at = device_id, behaviour, booted_at
        self.outbox = EventOutbox()
        # A part of its interval: the devices of a fleet do not send at the same moment.
        self.phase = random.random()
        self._boot = f"{int(booted_at.timestamp() * 1000):012x}"
        self._skew = timedelta(seconds=random.uniform(-1, 1) * behaviour.skew_s_max)
        self._tags = [f"room:{101 + random.randrange(ROOMS)}", *behaviour.tags]
        self._faults = Random(random.random())  # noqa: S311  # Separate, so that repeats leave the values unchanged.
        self._battery = Battery(random, behaviour.capacity_ah)
        self._seq = 0

    def measure(self, now: datetime) -> None:
        """Add an event to the outbox, unless the device is dead or forgets it."""
        event = self.event(now, self.behaviour.interval_s)
        if event is not None:
            self.outbox.add(event["event_id"], to_json(event))

    def event(self, now: datetime, elapsed_s: float) -> dict[str, Any] | None:
        """What it measures, with a timestamp of its own clock; None while it is dead, or if it forgets it."""
        at_s = self.age_s(now)
        metrics = self._advance(elapsed_s, at_s)
        if _is_in(self.behaviour.dead, at_s):
            return None
        self._seq += 1
        forgotten_percent = self.behaviour.forgotten_percent
        if forgotten_percent and self._chance(forgotten_percent):
            return None
        return {
            "event_id": f"{self._boot}-{self._seq:08}",
            "timestamp": rfc3339(now + self._skew),
            "metrics": metrics,
            "tags": self._tags,
            "seq": self._seq,
        }

    def age_s(self, now: datetime) -> float:
        """Seconds since the boot, negative before it."""
        return (now - self.booted_at).total_seconds()

    def _advance(self, elapsed_s: float, at_s: float) -> dict[str, float]:
        """Advance the battery in as many steps as it needs, up to STEPS_MAX of them."""
        overheats = _is_in(self.behaviour.overheating, at_s)
        drops = _is_in(self.behaviour.voltage_drop, at_s)
        steps = min(STEPS_MAX, math.ceil(elapsed_s / self._battery.step_s_max) or 1)
        for _ in range(steps):
            measured = self._battery.step(elapsed_s / steps, overheats=overheats, drops=drops)
        return measured

    def take_receipts(self, payload: bytes) -> None:
        """Ignore those for events of an earlier boot, which the broker kept meanwhile."""
        for receipt in read_receipts(payload):
            if (receipt["event_id"] or "").startswith(f"{self._boot}-"):
                self.outbox.settle(receipt)

    def copies(self) -> int:
        """How often to publish the next message: 0 simulates a loss, 2 a duplicate."""
        if self._chance(self.behaviour.loss_percent):
            return 0
        return 2 if self._chance(self.behaviour.duplicate_percent) else 1

    def _chance(self, percent: float) -> bool:
        return self._faults.random() * 100 < percent


def build_fleet(
    prefix: str, behaviours: Sequence[Behaviour], *, booted_at: datetime, seed: int | None = None
) -> list[BatteryDevice]:
    """A device for each behaviour. The seed decides values and faults; ids grow with each boot."""
    digits = max(3, len(str(len(behaviours))))
    return [
        _device(f"{prefix}-{n:0{digits}}", each, booted_at, seed)
        for n, each in enumerate(behaviours, 1)
    ]


def _device(
    device_id: str, behaviour: Behaviour, booted_at: datetime, seed: int | None
) -> BatteryDevice:
    random = Random(None if seed is None else f"{seed}:{device_id}")  # noqa: S311  # No secret.
    return BatteryDevice(device_id, behaviour, booted_at, random)


def _is_in(spell: Spell | None, at_s: float) -> bool:
    return spell is not None and spell.covers(at_s)


def _approach(step_s: float, lag_s: float) -> float:
    """The fraction of the distance to its target that a value with this lag covers in a step."""
    return 1 - math.exp(-step_s / lag_s)
