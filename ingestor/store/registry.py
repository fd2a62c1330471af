"""The registry cache of a writing process: devices, profiles and rules, and how old they may be.

Every writing transaction reads two version numbers. While they match, the cache is exact; otherwise it
is read again before the batch goes on. So a rule or profile is in force in every process for each event
received after the response that confirmed it, without a message between processes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import msgspec

from ingestor.alerts.rules import RuleBook
from ingestor.alerts.silences import Silence
from ingestor.batch import RegistryVersion
from ingestor.decode.acceptance import AcceptLimits, Fault
from ingestor.decode.wall_clock import WallClocks
from ingestor.retry import StoreRetry
from runtime.errors import StoreUnavailable
from schema.alert import Severity
from schema.database import WRITER_SESSION, Connection, connect
from schema.event import DeviceNo, Event, Reason, json_number
from schema.queries import load_queries
from schema.rule import Condition, Notify, Op, Rule

CACHED_DEVICES_MAX = 500_000  # About 100 MB. A cache that would exceed it is emptied first.

queries = load_queries("ingestor.store", "registry.sql")


class StaleRegistryError(Exception):
    """Devices or profiles changed since the batch was checked; it must be checked again."""


@dataclass(frozen=True, slots=True)
class Profile:
    """`ranges` maps a metric to its (min, max); other metrics have no range."""

    name: str
    ranges: Mapping[str, tuple[float, float]]
    receipts: bool = False  # whether every device of this profile gets receipts
    interval_s: float | None = None

    def fault(self, event: Event) -> Fault | None:
        """The first metric out of range, with range and profile; None without one."""
        ranges = self.ranges
        for metric, value in event.metrics.items():
            if metric in ranges:
                least, most = ranges[metric]
                if not least <= value <= most:
                    return Reason.OUT_OF_RANGE, (
                        f"metrics.{metric}: {value} is {_missed(least, most)} of profile {self.name}"
                    )
        return None


@dataclass(frozen=True, slots=True)
class Device:
    device_no: DeviceNo
    profile: Profile
    receipts: bool  # what its last birth asked for
    numbers: Mapping[str, DeviceNo]  # only this device: the parts of all its messages share it
    interval_s: float | None  # set for the device itself or its profile
    tz: str | None  # of its times without offset


class Registry:
    """The cache of one process. Reads of the database are retried until they succeed."""

    def __init__(
        self, dsn: str, name: str, default_profile: str, limits: AcceptLimits, retry: StoreRetry
    ) -> None:
        self._dsn, self._name, self._retry = dsn, f"{name} registry", retry
        self._clocks = WallClocks(limits)
        self.default_profile = default_profile
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._profiles: dict[str, Profile] = {}
        self.devices: dict[str, Device] = {}
        self.rules, self.silences = RuleBook(), list[Silence]()
        self.rules_version = self._database_version = -1
        self._times_expired = 0

    @property
    def version(self) -> RegistryVersion:
        """The version by which a batch is checked now."""
        return self._times_expired, self._database_version

    def is_current(self, version: RegistryVersion, database_version: int) -> bool:
        """Whether a batch checked by `version` may be written to a database at `database_version`."""
        return version == (self._times_expired, database_version)

    async def load(self, device_ids: Iterable[str]) -> None:
        """Bring the cache up to date for these devices. Unregistered ones stay unknown."""
        names = sorted(device_ids)
        await self._retry(
            lambda: self._query(lambda connection: self._find(connection, names)), by=self._find
        )

    async def add(self, device_ids: Iterable[str]) -> None:
        """Register devices on their first message. Another process may do the same."""
        names = sorted(device_ids)
        await self._retry(
            lambda: self._query(lambda connection: self._add(connection, names)), by=self._add
        )

    def expire(self) -> None:
        """Make the next batch read everything again: another server may answer now."""
        self.rules_version = self._database_version = -1
        self._times_expired += 1

    async def refresh_rules(self, connection: Connection, version: int) -> None:
        """Read rules and silences in a writing transaction: they are at least as new as `version`."""
        self.rules = RuleBook(map(rule_from_row, await connection.fetch(queries.read_rules)))
        self.silences = [Silence(**row) for row in await connection.fetch(queries.read_silences)]
        self.rules_version = version

    def learn_receipts(
        self,
        device_ids: Mapping[DeviceNo, str],
        asked: Collection[DeviceNo],
        births: Mapping[DeviceNo, bool],
    ) -> None:
        """After a commit: which of these devices had asked for receipts, and what `births` changed."""
        wanted = dict.fromkeys(asked, True) | dict(births)
        for number, device_id in device_ids.items():
            device = self.devices.get(device_id)
            if device is not None and device.receipts is not wanted.get(number, False):
                self.devices[device_id] = replace(device, receipts=wanted.get(number, False))

    def fault(self, event: Event) -> Fault | None:
        """The fault of the event by the profile of its device, or by the default profile.

        A time without offset becomes the instant that it is in the zone of the device.
        """
        device = self.devices.get(event.device_id)
        if device is None:
            return self._clocks.place(event, None) or self._profile(None).fault(event)
        return self._clocks.place(event, device.tz) or device.profile.fault(event)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _query(self, work: Callable[[Connection], Awaitable[None]]) -> None:
        async with self._lock:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await connect(self._dsn, self._name, WRITER_SESSION)
                await work(self._connection)
            except Exception as error:
                await self.close()
                raise StoreUnavailable(f"{type(error).__name__}: {error}") from error

    async def _find(self, connection: Connection, names: Sequence[str]) -> None:
        await self._refresh(connection)
        rows = await connection.fetch(queries.find_devices, names)
        if len(self.devices) + len(rows) > CACHED_DEVICES_MAX:
            self.devices.clear()
        for row in rows:
            profile = self._profile(row["profile"])
            name, number = row["device_id"], DeviceNo(row["device_no"])
            self.devices[name] = Device(
                number,
                profile,
                row["receipts"],
                {name: number},
                profile.interval_s if row["interval_s"] is None else row["interval_s"],
                row["tz"],
            )

    async def _add(self, connection: Connection, names: Sequence[str]) -> None:
        await connection.execute(queries.add_devices, names, self.default_profile)
        await self._find(connection, names)

    async def _refresh(self, connection: Connection) -> None:
        version = await connection.fetchval(queries.read_registry_version)
        if version != self._database_version:
            rows = await connection.fetch(queries.read_profiles)
            self._profiles = {row["name"]: _profile(row) for row in rows}
            self.devices.clear()
            self._database_version = version

    def _profile(self, name: str | None) -> Profile:
        name = name or self.default_profile
        return self._profiles.get(name) or Profile(name, {})


def rule_from_row(row: Any) -> Rule:
    return Rule(
        rule_id=row["rule_id"],
        device_id=row["device_id"],
        tag=row["tag"],
        metric=row["metric"],
        op=None if row["op"] is None else Op(row["op"]),
        threshold=row["threshold"],
        severity=Severity(row["severity"]),
        for_s=row["for_s"],
        clear_threshold=row["clear_threshold"],
        cooldown_s=row["cooldown_s"],
        notify=Notify(row["notify"]),
        in_force_from=row["in_force_from"],
        condition=Condition(row["condition"]),
        max_gap_s=row["max_gap_s"],
        name=row["name"],
        channels=tuple(row["channels"]),
    )


def _missed(least: float, most: float) -> str:
    """Which limit a value did not keep, where one or both are set."""
    if least == -inf:
        return f"above the maximum {_shown(most)}"
    if most == inf:
        return f"below the minimum {_shown(least)}"
    return f"outside {_shown(least)} to {_shown(most)}"


def _shown(limit: float) -> str:
    return str(json_number(float(limit)))


def _profile(row: Any) -> Profile:
    metrics: dict[str, dict[str, Any]] = msgspec.json.decode(row["metrics"])
    ranges = {
        name: (limits.get("min", -inf), limits.get("max", inf))
        for name, limits in metrics.items()
        if "min" in limits or "max" in limits
    }
    return Profile(row["name"], ranges, row["receipts"], row["interval_s"])
