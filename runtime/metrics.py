"""What a process counts about itself, as Prometheus reads it. Every metric of ours is named here.

Events are counted in plain numbers and read when asked for: the receive path has no microsecond to
spare, and one look at them all, from the event loop that changes them, is consistent.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.health import Health
from runtime.version import VERSION

BATCH_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
REQUEST_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
BATCH_EVENTS = (1, 10, 50, 100, 200, 500, 1000, 2000, 3000)
REPLAY = "replay"  # Stands for a door where dead letters come in again.


class Dropped(StrEnum):
    """Why an event left without a verdict."""

    BAD_TOPIC = "bad_topic"  # no device could have that name
    EMPTY = "empty"  # nothing in it, as when a retained message is cleared
    SUPERSEDED = "superseded"  # sent again by the broker while its first copy still waits here


@dataclass(slots=True)
class EventCounts:
    """The events that came through one door of this process. An undecodable payload counts as one.

    received = stored + duplicate + rejected + dropped + in flight, at every instant between two
    turns of the event loop.
    """

    received: int = 0
    in_flight: int = 0
    stored: int = 0
    duplicate: int = 0
    without_identity: int = 0  # of the stored: they stand outside the delivery promise
    rejected: Tally[str] = field(default_factory=Tally)  # by reason
    dropped: Tally[Dropped] = field(default_factory=Tally)

    def enter(self, events: int) -> None:
        """So many came in, or an array turned out to hold so many more."""
        self.received += events
        self.in_flight += events

    def leave(self, events: int, reason: Dropped) -> None:
        """These were in flight and get no verdict."""
        self.in_flight -= events
        self.dropped[reason] += events

    @property
    def balanced(self) -> bool:
        """The law of conservation."""
        settled = self.stored + self.duplicate + self.rejected.total() + self.dropped.total()
        return self.received == settled + self.in_flight


class Metrics:
    """The metrics of one process. Without a registry nobody reads them.

    `reasons` are those of rejections that are shown from the start, with a count of zero.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, reasons: Sequence[str] = ()
    ) -> None:
        self.events: dict[str, EventCounts] = {}
        self.broker_dropped: int | None = None  # as the broker says; unknown until it does
        self.messages: Tally[tuple[str, int]] = Tally()  # by kind and QoS
        self.batch_seconds = Histogram(
            "voltwire_batch_duration_seconds",
            "Time from the first attempt to write a batch until it was settled.",
            ("door",),
            buckets=BATCH_SECONDS,
            registry=registry,
        )
        self.batch_events = Histogram(
            "voltwire_batch_events",
            "Events of a written batch.",
            ("door",),
            buckets=BATCH_EVENTS,
            registry=registry,
        )
        self.connections = Counter(
            "voltwire_broker_connections",
            "Times that a session was connected and subscribed.",
            ("client",),
            registry=registry,
        )
        self.new_sessions = Counter(
            "voltwire_broker_new_sessions",
            "Connections at which the broker knew no session of ours: after the very first one,"
            " messages may be lost.",
            ("client",),
            registry=registry,
        )
        self.receipts = Counter(
            "voltwire_receipts",
            "Receipts by outcome: sent, or dropped because the broker did not take them.",
            ("outcome",),
            registry=registry,
        )
        self.published = Counter(
            "voltwire_feed_published",
            "Alerts and changes of presence that were published over MQTT.",
            registry=registry,
        )
        self.request_seconds = Histogram(
            "voltwire_http_request_duration_seconds",
            "Time until the answer to a request began, by method, route and status.",
            ("method", "route", "status"),
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self.streams = Gauge(
            "voltwire_streams", "Open streams of server-sent events.", registry=registry
        )
        self.job_runs = Counter(
            "voltwire_job_runs",
            "Runs of the scheduler's jobs by outcome, ok or failed.",
            ("job", "outcome"),
            registry=registry,
        )
        self.job_succeeded_at = Gauge(
            "voltwire_job_succeeded_timestamp_seconds",
            "When a job ran last without a fault, in seconds since 1970.",
            ("job",),
            registry=registry,
        )
        self.dropped_months = Counter(
            "voltwire_retention_dropped_partitions",
            "Months of raw events that were dropped because they were older than RETENTION_DAYS.",
            registry=registry,
        )
        Info("voltwire_build", "The version that runs.", registry=registry).info(
            {"version": VERSION}
        )
        if registry is not None:
            registry.register(_Events(self.events, reasons))
            registry.register(_Messages(self))
        self._registry = registry

    def events_of(self, door: str) -> EventCounts:
        """The counts of a door, or of replayed dead letters."""
        return self.events.setdefault(door, EventCounts())

    def watch(self, health: Health) -> None:
        """Show the checks of /health, too."""
        if self._registry is not None:
            self._registry.register(_Checks(health))


class _Events(Collector):
    def __init__(self, events: dict[str, EventCounts], reasons: Sequence[str]) -> None:
        self._events, self._reasons = events, reasons

    def collect(self) -> Iterable[Metric]:
        door = ("door",)
        received = CounterMetricFamily(
            "voltwire_events_received", "Events that came in, copies included.", labels=door
        )
        stored = CounterMetricFamily("voltwire_events_stored", "Of these stored.", labels=door)
        duplicate = CounterMetricFamily(
            "voltwire_events_duplicate", "Of these stored before under the same key.", labels=door
        )
        rejected = CounterMetricFamily(
            "voltwire_events_rejected",
            "Of these rejected, by the reason in the dead letter.",
            labels=("door", "reason"),
        )
        dropped = CounterMetricFamily(
            "voltwire_events_dropped",
            "Of these dropped without a verdict: bad_topic, empty, superseded by an earlier copy.",
            labels=("door", "reason"),
        )
        in_flight = GaugeMetricFamily(
            "voltwire_events_in_flight", "Of these not settled yet.", labels=door
        )
        without_identity = CounterMetricFamily(
            "voltwire_events_without_identity",
            "Of the stored: with neither event_id nor own time, so that a copy is another event.",
            labels=door,
        )
        for name, counts in self._events.items():
            received.add_metric((name,), counts.received)
            stored.add_metric((name,), counts.stored)
            duplicate.add_metric((name,), counts.duplicate)
            in_flight.add_metric((name,), counts.in_flight)
            without_identity.add_metric((name,), counts.without_identity)
            for reason in sorted({*self._reasons, *counts.rejected}):
                rejected.add_metric((name, reason), counts.rejected[reason])
            for why in Dropped:
                dropped.add_metric((name, why), counts.dropped[why])
        return (received, stored, duplicate, rejected, dropped, in_flight, without_identity)


class _Messages(Collector):
    def __init__(self, metrics: "Metrics") -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        received = CounterMetricFamily(
            "voltwire_messages_received",
            "MQTT messages by kind (telemetry, status, heartbeat, other) and QoS as received.",
            labels=("kind", "qos"),
        )
        for (kind, qos), count in sorted(self._metrics.messages.items()):
            received.add_metric((kind, str(qos)), count)
        dropped = GaugeMetricFamily(
            "voltwire_broker_dropped_messages",
            "Messages that the broker says it dropped since its start (Mosquitto's $SYS).",
        )
        if self._metrics.broker_dropped is not None:
            dropped.add_metric((), self._metrics.broker_dropped)
        return (received, dropped)


class _Checks(Collector):
    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterable[Metric]:
        checks = GaugeMetricFamily(
            "voltwire_check", "The checks of /health: 1 ok, 0 failing.", labels=("check",)
        )
        for name, (ok, _) in sorted(self._health.checks.items()):
            checks.add_metric((name,), float(ok))
        return (checks,)
