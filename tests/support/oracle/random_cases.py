"""Random events and random queries about them, the same for the same seed and day.

Times cluster where mistakes are likely: clock changes (by an hour, by half an hour, at midnight), hours and
days of zones whose hours differ from those of UTC, ends of months, now.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from tests.support.oracle.buckets import (
    FIXED,
    midnight,
)
from tests.support.oracle.oracle import AS_STORED
from tests.support.oracle.query import DEFAULT_STATS, STATS, AggregateQuery, Condition, Stored

DAYS = 720  # How far back events go; the tests have partitions for 800 days, and 730 are accepted.
HOUR, MICROSECOND = timedelta(hours=1), timedelta(microseconds=1)
# Clocks change in most of them: Cairo, Beirut, Havana and the Azores at midnight, Lord Howe by 30 minutes.
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Cairo",
    "Asia/Beirut", "America/Havana", "Atlantic/Azores", "America/St_Johns", "Pacific/Chatham",
    "Antarctica/Troll", "America/Nuuk", "Africa/Casablanca", "Asia/Kathmandu", "America/Sao_Paulo",
    "Pacific/Apia",
)  # fmt: skip
# Before the first event: the epoch and its first week, a day that Apia skipped, midnights in Sao Paulo and
# St John's that did not exist or existed twice.
PAST = tuple(
    map(
        datetime.fromisoformat,
        (
            "1970-01-01T00:00Z", "1970-01-05T00:00Z", "2011-12-30T10:00Z", "2018-11-04T03:00Z",
            "2006-10-29T02:31Z",
        ),
    )
)  # fmt: skip
DEVICES = ("a", "B", "b", "a.1", "a-1", "Z:9")
TAGS = (
    "room:101", "room:1", "Room:1", "a,b", "{a}", 'say "a"', "back\\slash", "null", " ", "ä", "a\u0308", "%",
    "\U0001f50b", "\uff5e", "new\nline", "\x1f",
)  # fmt: skip
DEVICE_TAGS = (
    "fleet:north",
    "fleet:south",
    "Fleet:",
    "fleet:\u00e4",
    "driver:1",
    "room:1",
    "%",
    'a"b',
)
OPERATORS = (">", ">=", "<", "<=", "==", "!=")
# No mean, deviation or percentile of the values below lies within a rounding error of one of these.
THRESHOLDS = (-2.7123, 0.0137, 1.7193, 3.1418, 50.0071, 123456789.1297)
EVENT_IDS = ("e", "E", "é", "e 1", "e,1", "0", "~")
VALUES: dict[str, Sequence[float]] = {
    "soc_percent": (0, 12.5, 67.5, 67.25, 99.9, 100),
    "ints": (-1, 0, 1, 2, 3, 7),
    "same": (0.495,),
    "decimals": (0.1, 0.2, 0.3, -0.3, 0.495, 20.05, -17.35),
    "near": (123456789.123, 123456789.124, 123456789.126),
    "huge": (1e300, -1e300, 1.7e308, -1.7e308, 1e308, 1),
    "tiny": (5e-324, -5e-324, 1e-300, 2.5e-310, 0),
    "large": (2**53 - 1, 2**53, 2**53 + 2, 2**60, 1234567890123456, 10**15, 10**21, 1e22),
    "a%b/c:d.e-f": (-0.0, 1.5, 1e-7, 1e300, 1e-300, 0.495, 3),
}
GROUPINGS: tuple[tuple[str, ...], ...] = (
    (), (), (), ("device",), ("device",), ("tag",), ("device_tag",), ("device", "device_tag"),
    ("device_tag", "device"), ("tag", "device"), ("device_tag", "tag"),
)  # fmt: skip
INTERVALS = (
    "1s", "7s", "30s", "1m", "5m", "15m", "45m", "60m", "90m", "1h", "2h", "3h", "5h", "24h", "36h", "168h",
    "1d", "2d", "7d", "10d", "365d", "1w", "2w", "3w", "1mo", "2mo", "5mo", "12mo", "1200mo",
)  # fmt: skip
DAYS_OF = {"d": 1, "w": 7, "mo": 30}


class RandomCase:
    """The stored events, and a source of random posts and queries."""

    def __init__(self, seed: int, now: datetime) -> None:
        self.random = Random(seed)
        self.now = now
        self.events: list[Stored] = []
        self.keys: set[tuple[str, str]] = set()
        self.floor = now - timedelta(days=DAYS + 10)  # No older event is sent.
        self.device_tags: dict[str, list[str]] = {}
        zones = self.random.sample(ZONES, 4)
        self.places = [now, *(self._place(zone) for zone in (*zones, *zones))]

    def chance(self, part: float) -> bool:
        return self.random.random() < part

    def post(self, size: int) -> tuple[list[dict[str, Any]], list[str]]:
        """A body to post and the status of each event; some repeat a key with other values."""
        body, statuses = [], []
        for _ in range(size):
            event = self._event()
            if self.keys and self.chance(0.1):
                device_id, event_id = self.random.choice(sorted(self.keys))
                event = replace(event, device_id=device_id, event_id=event_id)
            key = event.device_id, event.event_id
            statuses.append("duplicate" if key in self.keys else "stored")
            if key not in self.keys:
                self.keys.add(key)
                self.events.append(event)
            body.append(
                {
                    "device_id": event.device_id,
                    "event_id": event.event_id,
                    "timestamp": event.ts.isoformat(),
                    "metrics": event.metrics,
                    "tags": list(event.tags),
                }
            )
        return body, statuses

    def registration(self) -> tuple[str, list[str]]:
        """A device, and the tags that it is registered with from now on."""
        device_id = self.random.choice(DEVICES)
        tags = self.random.sample(DEVICE_TAGS, self.random.randint(0, 3))
        self.device_tags[device_id] = tags
        return device_id, tags

    def retire(self, floor: datetime) -> None:
        """Send no older events any more; their keys become free."""
        self.floor = floor
        self.keys = {
            (event.device_id, event.event_id) for event in self.events if event.ts >= floor
        }

    def closing(self) -> datetime | None:
        """An hour for the roller to close: anywhere, near a place, or the last one."""
        if self.chance(0.2):
            return None
        if self.chance(0.4):
            return _hour(self.now - timedelta(days=self.random.uniform(0, DAYS)))
        place = self.random.choice(self.places) + self.random.randint(-5, 5) * HOUR
        return min(_hour(place), _hour(self.now))

    def query(self) -> AggregateQuery:
        random = self.random
        start, end = self._range()
        tz = random.choice(ZONES) if self.chance(0.6) else "UTC"
        interval = random.choice(INTERVALS)
        rows_max = 200 if self.chance(0.95) else 20_000
        while (end - start) / _about(interval) > rows_max:
            interval = random.choice(INTERVALS)
        keys = random.choice(GROUPINGS)
        stats = self._stats()
        more = self._some([*VALUES, "nothing"], 0.3, 3)
        auto = self.chance(0.1)
        return AggregateQuery(
            metric=random.choice([*VALUES, "nothing"]),
            more_metrics=tuple(more),
            start=start.astimezone(ZoneInfo(random.choice(("UTC", "Asia/Kolkata")))),
            end=end,
            interval="auto" if auto else interval,
            max_points=random.choice((1, 3, 20, 200)) if auto else None,
            device_ids=tuple(self._some((*DEVICES, "nobody"), 0.4, 3)),
            tags=tuple(self._some(TAGS[:4], 0.15, 2)),
            device_tags=tuple(self._some(DEVICE_TAGS[:4], 0.15, 2)),
            group_by=keys[0] if keys else None,
            group_by_too=keys[1] if len(keys) > 1 else None,
            tag_prefix=random.choice((None, "room:", "R")) if "tag" in keys else None,
            device_tag_prefix=(
                random.choice((None, "fleet:", "F")) if "device_tag" in keys else None
            ),
            where=tuple(self._where()),
            having=tuple(self._having(stats)),
            columns=self.chance(0.2),
            tz=tz,
            fill=random.choice(("none", "none", "null", "previous", "linear")),
            stats=stats,
        )

    def day(self) -> tuple[str, date, str]:
        """The device, day and zone of a summary."""
        tz = self.random.choice(ZONES)
        device_id = self.random.choice(self.events).device_id
        near = self.random.choice(self.places) + self.random.randint(-1, 1) * timedelta(days=1)
        return device_id, near.astimezone(ZoneInfo(tz)).date(), tz

    def _place(self, zone: str) -> datetime:
        changes = clock_changes(zone, self.now.date())
        if changes and self.chance(0.8):
            return self.random.choice(changes)
        day = self.now.date() - timedelta(days=self.random.randrange(2, DAYS))
        return midnight(
            day.replace(day=1) if self.chance(0.5) and day > _first(self.now) else day, zone
        )

    def _event(self) -> Stored:
        random = self.random
        ts = self._near(random.choice(self.places))
        if self.events and self.chance(0.1):
            ts = random.choice(self.events).ts
        while ts < self.floor:
            ts = self._near(random.choice(self.places))
        names = random.sample(list(VALUES), random.randint(1, 5))
        tags = random.choices(TAGS, k=random.choice((0, 1, 1, 2, 3, 6)))
        event_id = f"{random.choice(EVENT_IDS)}{random.randrange(10**6)}"
        return Stored(
            random.choice(DEVICES),
            random.choice(EVENT_IDS) if self.chance(0.02) else event_id,
            ts,
            {name: random.choice(VALUES[name]) for name in names},
            tuple(tags),
        )

    def _near(self, place: datetime) -> datetime:
        random = self.random
        distance = random.choice(
            (
                timedelta(0),
                random.choice((-1, 1)) * MICROSECOND,
                random.randint(-3, 3) * HOUR,
                random.randint(-6, 6) * timedelta(minutes=30) - MICROSECOND,
                timedelta(seconds=random.randint(-7200, 7200)),
                timedelta(microseconds=random.randint(-(10**11), 10**11)),
            )
        )
        at = place + distance
        return at if at <= self.now + timedelta(minutes=4) else self.now - abs(distance)

    def _range(self) -> tuple[datetime, datetime]:
        """From a minute to everything, between whole hours, odd instants, and exact times of events."""
        while True:
            start, end = sorted((self._bound(), self._bound()))
            if self.chance(0.6):
                end = start + timedelta(
                    hours=self.random.choice((1, 2, 5, 23, 24, 25, 48, 170, 800))
                )
            if start < end:
                return start, end

    def _bound(self) -> datetime:
        if self.events and self.chance(0.2):
            return self.random.choice(self.events).ts + self.random.choice((0, 0, 1)) * MICROSECOND
        near = self._near(self.random.choice(PAST if self.chance(0.07) else self.places))
        return _hour(near) if self.chance(0.7) else near

    def _stats(self) -> tuple[str, ...]:
        if self.chance(0.3):
            return DEFAULT_STATS
        names = STATS if self.chance(0.3) else STATS[:8]
        return tuple(self.random.sample(names, self.random.randint(1, len(names))))

    def _where(self) -> Iterator[Condition]:
        while self.chance(0.12):
            name = self.random.choice(list(VALUES))
            number = self.random.choice((*VALUES[name], *THRESHOLDS))
            yield Condition(name, self.random.choice(OPERATORS), float(number))

    def _having(self, stats: Sequence[str]) -> Iterator[Condition]:
        while self.chance(0.12):
            name = self.random.choice(stats)
            numbers: Sequence[float] = THRESHOLDS if name != "count" else (1, 2, 5)
            if name in AS_STORED:
                numbers = (*THRESHOLDS, 1, 0.495, 1e300)
            yield Condition(name, self.random.choice(OPERATORS), float(self.random.choice(numbers)))

    def _some(self, names: Sequence[str], part: float, most: int) -> list[str]:
        return self.random.sample(names, self.random.randint(1, most)) if self.chance(part) else []


@cache
def clock_changes(zone: str, today: date) -> list[datetime]:
    """The instants, in UTC, at which the clocks of a zone changed within DAYS."""

    def offset(at: datetime) -> timedelta | None:
        return at.astimezone(ZoneInfo(zone)).utcoffset()

    noon = datetime(today.year, today.month, today.day, 12, tzinfo=UTC)
    days = [noon - timedelta(days=n) for n in range(DAYS, 1, -1)]
    found = []
    for before, after in pairwise(days):
        if offset(before) != offset(after):
            low, high = before, after
            while high - low > timedelta(seconds=1):
                middle = (low + (high - low) / 2).replace(microsecond=0)
                low, high = (middle, high) if offset(middle) == offset(before) else (low, middle)
            found.append(high)
    return found


def _first(now: datetime) -> date:
    return now.date() - timedelta(days=DAYS - 31)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _about(interval: str) -> timedelta:
    unit = interval.lstrip("0123456789")
    count = int(interval.removesuffix(unit))
    return FIXED[unit] * count if unit in FIXED else timedelta(days=DAYS_OF[unit] * count)
