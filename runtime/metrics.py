"""Every Prometheus metric of a process.

Events are counted in integers and collected on each scrape: this costs the receive path least, and a
scrape, in the event loop that changes them, reads a consistent state.
"""

from collections import Counter as CountBy
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
REPLAY = "replay"  # The label of replayed dead letters in place of a door.


class Dropped(StrEnum):
    """Why an event was dropped without a verdict."""

    BAD_TOPIC = "bad_topic"  # the topic holds no valid device id
    EMPTY = "empty"  # no payload, as when a retained message is cleared
    SUPERSEDED = "superseded"  # redelivered while its first copy still waits here
    RATE_LIMITED = "rate_limited"  # above MQTT_RATE_LIMIT of its device


@dataclass(slots=True)
class EventCounts:
    """The events received at one door of this process. An undecodable payload counts as one.

    received = stored + duplicate + rejected + dropped + in flight, between any two steps of the event
    loop.
    """

    received: int = 0
    in_flight: int = 0
    stored: int = 0
    duplicate: int = 0
    reused_ids: int = 0  # of the duplicates: the stored event has another own time
    without_identity: int = 0  # of the stored: the delivery promise does not cover them
    rejected: CountBy[str] = field(default_factory=CountBy)  # by reason
    dropped: CountBy[Dropped] = field(default_factory=CountBy)

    def enter(self, events: int) -> None:
        """Count events that arrived, or that a decoded array holds beyond the one it counted as."""
        self.received += events
        self.in_flight += events

    def leave(self, events: int, reason: Dropped) -> None:
        """Count events as dropped that were in flight."""
        self.in_flight -= events
        self.dropped[reason] += events

    @property
    def balanced(self) -> bool:
        """Whether every received event is accounted for."""
        settled = self.stored + self.duplicate + self.rejected.total() + self.dropped.total()
        return self.received == settled + self.in_flight


class Metrics:
    """The metrics of one process; without a registry they are not exposed.

    `reasons` are the rejection reasons that are exposed from the start with a count of zero.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, reasons: Sequence[str] = ()
    ) -> None:
        self.events: dict[str, EventCounts] = {}
        self.broker_dropped: int | None = None  # as the broker reports it; unknown before that
        self.messages: CountBy[tuple[str, int]] = CountBy()  # by kind and QoS
        self._registry = registry
        self._define_ingest_metrics()
        self._define_http_metrics()
        self._define_scheduler_metrics()
        build = Info("voltwire_build", "The version that runs.", registry=registry)
        build.info({"version": VERSION})
        if registry is not None:
            registry.register(_Events(self.events, reasons))
            registry.register(_Messages(self))

    def _define_ingest_metrics(self) -> None:
        self.batch_seconds = Histogram(
            "voltwire_batch_duration_seconds",
            "Time from the first attempt to write a batch until it was settled.",
            ("door",),
            buckets=BATCH_SECONDS,
            registry=self._registry,
        )
        self.batch_events = Histogram(
            "voltwire_batch_events",
            "Events per written batch.",
            ("door",),
            buckets=BATCH_EVENTS,
            registry=self._registry,
        )
        self.connections = Counter(
            "voltwire_broker_connections",
            "How often a session connected and subscribed.",
            ("client",),
            registry=self._registry,
        )
        self.new_sessions = Counter(
            "voltwire_broker_new_sessions",
            "Connections for which the broker held no session: after the very first one, messages"
            " may be lost.",
            ("client",),
            registry=self._registry,
        )
        self.receipts = Counter(
            "voltwire_receipts",
            "Receipts by outcome: sent, or dropped because the broker did not take them.",
            ("outcome",),
            registry=self._registry,
        )

    def _define_http_metrics(self) -> None:
        self.request_seconds = Histogram(
            "voltwire_http_request_duration_seconds",
            "Time until the response to a request began, by method, route and status.",
            ("method", "route", "status"),
            buckets=REQUEST_SECONDS,
            registry=self._registry,
        )
        self.streams = Gauge(
            "voltwire_streams", "Open streams of server-sent events.", registry=self._registry
        )

    def _define_scheduler_metrics(self) -> None:
        self.channel_deliveries = Counter(
            "voltwire_channel_notifications",
            "Notifications of channels by outcome: delivered, failed (it is retried) or given_up.",
            ("outcome",),
            registry=self._registry,
        )
        self.published = Counter(
            "voltwire_feed_published",
            "Alerts and presence changes published over MQTT.",
            registry=self._registry,
        )
        self.job_runs = Counter(
            "voltwire_job_runs",
            "Runs of the scheduler's jobs by outcome, ok or failed.",
            ("task", "outcome"),
            registry=self._registry,
        )
        self.job_succeeded_at = Gauge(
            "voltwire_job_succeeded_timestamp_seconds",
            "When a job last succeeded, in seconds since 1970.",
            ("task",),  # Prometheus gives every sample a label `job` of its own.
            registry=self._registry,
        )
        self.dropped_months = Counter(
            "voltwire_retention_dropped_partitions",
            "Months of raw events dropped because they were older than RETENTION_DAYS.",
            registry=self._registry,
        )

    def events_of(self, door: str) -> EventCounts:
        """The counts of a door, or of replayed dead letters."""
        return self.events.setdefault(door, EventCounts())

    def watch(self, health: Health) -> None:
        """Expose the checks of /health as well."""
        if self._registry is not None:
            self._registry.register(_Checks(health))


# Per door: the name of the metric, its meaning, and the attribute of EventCounts that it shows.
_PER_DOOR = (
    ("voltwire_events_received", "Events received, copies included.", "received"),
    ("voltwire_events_stored", "Received events that were stored.", "stored"),
    ("voltwire_events_duplicate", "Received events whose key was stored before.", "duplicate"),
    (
        "voltwire_events_without_identity",
        "Stored events with neither event_id nor own time, so that a copy is another event.",
        "without_identity",
    ),
    (
        "voltwire_events_reused_id",
        "Duplicates with another own time than the stored event: their device uses an event_id twice.",
        "reused_ids",
    ),
)
_PER_REASON = ("door", "reason")


class _Events(Collector):
    def __init__(self, events: dict[str, EventCounts], reasons: Sequence[str]) -> None:
        self._events, self._reasons = events, reasons

    def collect(self) -> Iterable[Metric]:
        for name, meaning, attribute in _PER_DOOR:
            counter = CounterMetricFamily(name, meaning, labels=("door",))
            for door, counts in self._events.items():
                counter.add_metric((door,), getattr(counts, attribute))
            yield counter
        yield self._in_flight()
        yield self._rejected()
        yield self._dropped()

    def _in_flight(self) -> Metric:
        gauge = GaugeMetricFamily(
            "voltwire_events_in_flight",
            "Received events that are not settled yet.",
            labels=("door",),
        )
        for door, counts in self._events.items():
            gauge.add_metric((door,), counts.in_flight)
        return gauge

    def _rejected(self) -> Metric:
        counter = CounterMetricFamily(
            "voltwire_events_rejected",
            "Received events that were rejected, by the reason in the dead letter.",
            labels=_PER_REASON,
        )
        for door, counts in self._events.items():
            for reason in sorted({*self._reasons, *counts.rejected}):
                counter.add_metric((door, reason), counts.rejected[reason])
        return counter

    def _dropped(self) -> Metric:
        counter = CounterMetricFamily(
            "voltwire_events_dropped",
            f"Received events that were dropped without a verdict: {', '.join(Dropped)}.",
            labels=_PER_REASON,
        )
        for door, counts in self._events.items():
            for reason in Dropped:
                counter.add_metric((door, reason), counts.dropped[reason])
        return counter


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
            "Messages that the broker reports as dropped since its start (Mosquitto's $SYS).",
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
