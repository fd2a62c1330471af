"""Ingest: QoS 1 messages through Mosquitto into PostgreSQL, compared with the broker alone.

One `voltwire ingest` runs, no API. The clock runs from the first message sent until all are settled, as
`/metrics` of the ingestor reports. In the same run the same messages first go from Mosquitto to
mosquitto_sub: rates depend on a noisy machine, ratios do so less.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import httpx

from benchmarks.load.events import yesterday_ms
from benchmarks.load.mqtt import PublishPlan
from benchmarks.rates import sustained, whole
from benchmarks.report import Options, Row
from benchmarks.services import (
    DatabaseServer,
    LoadProcess,
    RoleProcess,
    database,
    role,
    role_cpu_seconds,
    server_cpu_seconds,
    until,
)
from tests.support.brokers.mosquitto import mosquitto

AHEAD_MAX = 30_000  # Messages: the load lasts until the end, and the broker's queue stays small.
SAMPLE_S = 0.2  # Each sample costs the ingestor a few milliseconds.
STALL_S_MAX = 60
BROKER_S_MAX = 300
WINDOW = 5000  # max_inflight_messages of the shipped mosquitto.conf.
HELD = 0.95  # Share of the window: canaries take some of its places.
RULES = (
    {"metric": "temp_c", "op": ">", "threshold": 149},
    {"metric": "soc_percent", "op": "<", "threshold": 1},
    {"metric": "voltage_v", "op": ">", "threshold": 499, "tag": "room:101", "for_s": 60},
)


@dataclass(frozen=True)
class Case:
    name: str
    messages: int
    size: int = 1
    duplicates_percent: float = 0.0
    rules: bool = False


@dataclass(frozen=True)
class Rates:
    """Events per second, and the CPU time per event."""

    whole: float
    sustained: float | None
    ingest_us: float
    server_us: float

    @property
    def best_known(self) -> float:
        return self.whole if self.sustained is None else self.sustained

    def ratio_to(self, other: "Rates") -> float:
        """The ratio of the same measure: a sustained rate is higher than a whole one."""
        if self.sustained is None or other.sustained is None:
            return self.whole / other.whole
        return self.sustained / other.sustained


def cases(options: Options) -> list[Case]:
    singles, arrays = options.scaled(500_000), options.scaled(60_000)
    return [
        Case("one event, 1 % duplicates", singles, duplicates_percent=1),
        Case(f"the same, {len(RULES)} rules", singles, duplicates_percent=1, rules=True),
        Case("arrays of 20", arrays, 20),
        Case(f"the same, {len(RULES)} rules", arrays, 20, rules=True),
    ]


def run(options: Options) -> Iterator[Row]:
    for case in cases(options):
        yield _row(case)
    window = min(WINDOW, options.scaled(WINDOW, least=200))
    yield redelivered(window, known=False)
    yield redelivered(window, known=True)


def _row(case: Case) -> Row:
    with mosquitto() as broker, database() as server:
        plan = PublishPlan(
            broker.port,
            case.messages,
            case.size,
            case.duplicates_percent,
            start_ms=yesterday_ms(),
        )
        alone = _broker_alone(plan)
        if case.rules:
            add_rules(server, *RULES)
        with role("ingest", server, broker) as ingestor:
            rates = measure(plan, ingestor, server)
    return {
        "messages": case.name,
        "events/s, sustained": rates.sustained,
        "events/s, whole": rates.whole,
        "messages/s": rates.best_known / case.size,
        "broker alone, messages/s": alone,
        "ratio": rates.best_known / case.size / alone,
        "ingest CPU, µs/event": rates.ingest_us,
        "PostgreSQL CPU, µs/event": rates.server_us,
    }


def add_rules(server: DatabaseServer, *rules: dict[str, object]) -> None:
    """Add rules over HTTP; the API ends before the clock starts."""
    with role("api", server) as api:
        for rule in rules:
            api.post("/v1/alerts", rule)


def measure(
    plan: PublishPlan, ingestor: RoleProcess, server: DatabaseServer, stored_before: int = 0
) -> Rates:
    """Send everything, wait until everything is settled, and count what the database holds."""
    before = ingestor.counts().settled
    events = plan.messages * plan.size
    with LoadProcess("mqtt", replace(plan, ahead_max=AHEAD_MAX)) as load:
        ingest_s, server_s = role_cpu_seconds(ingestor), server_cpu_seconds()
        began = changed = time.perf_counter()
        samples = [(0.0, 0)]
        load.start()
        while samples[-1][1] < events:
            time.sleep(SAMPLE_S)
            settled = ingestor.counts().settled - before
            now = time.perf_counter()
            changed = now if settled > samples[-1][1] else changed
            if now - changed > STALL_S_MAX:
                raise RuntimeError(
                    f"{settled} of {events} are settled, and the number stopped growing."
                )
            samples.append((now - began, settled))
            load.report_settled(settled // plan.size)
        ingest_s = role_cpu_seconds(ingestor) - ingest_s
        server_s = server_cpu_seconds() - server_s
        _require_all(plan, load)
        stored = server.value("select count(*) from event_key") - stored_before
        if stored != events - load.ready["duplicates"]:
            raise RuntimeError(f"{stored} of {events} are stored: {ingestor.counts()}")
    return Rates(
        whole(samples), sustained(samples), ingest_s / events * 1e6, server_s / events * 1e6
    )


def _require_all(plan: PublishPlan, load: LoadProcess) -> None:
    acknowledged = load.result()["acknowledged"]
    if acknowledged != plan.messages:
        raise RuntimeError(f"{acknowledged} of {plan.messages} messages got a PUBACK")


def _broker_alone(plan: PublishPlan) -> float:
    """Messages per second from Mosquitto to mosquitto_sub."""
    program = shutil.which("mosquitto_sub")
    if program is None:
        raise RuntimeError("mosquitto_sub is missing: install Debian's mosquitto-clients.")
    topic = ["-q", "1", "-t", "devices/+/telemetry", "-C", str(plan.messages)]
    command = [program, "-p", str(plan.port), *topic]
    with (
        LoadProcess("mqtt", plan) as load,
        subprocess.Popen(command, stdout=subprocess.DEVNULL) as subscriber,
    ):
        time.sleep(0.5)  # Until it has subscribed.
        began = time.perf_counter()
        load.start()
        subscriber.wait(BROKER_S_MAX)
        seconds = time.perf_counter() - began
        _require_all(plan, load)
    return plan.messages / seconds


def redelivered(window: int, *, known: bool) -> Row:
    """Kill the ingestor with a whole window unacknowledged; time its successor until all is settled.

    `known`: every event of the window is already stored, as when only the acknowledgements were lost.
    """
    with mosquitto() as broker, database() as server:
        plan = PublishPlan(broker.port, window, start_ms=yesterday_ms())
        with role("ingest", server, broker) as ingestor:
            if known:
                measure(plan, ingestor, server)
            with server.locked("event_key"):
                _publish(plan)
                until(
                    lambda: ingestor.counts().in_flight >= HELD * window, 60, "the window is held"
                )
                ingestor.process.kill()
            started = time.perf_counter()
            ingestor.process.start()
            first = _when_settled(ingestor, 1)
            last = _when_settled(ingestor, window)
            counts = ingestor.counts()
    return {
        "window redelivered after kill -9": "all stored before"
        if known
        else "nothing stored before",
        "messages": window,
        "start to first settled, s": first - started,
        "start to all settled, s": last - started,
        "found stored": counts.duplicate,
        "stored now": counts.stored,
    }


def _publish(plan: PublishPlan) -> None:
    with LoadProcess("mqtt", plan) as load:
        load.start()
        _require_all(plan, load)


def _when_settled(ingestor: RoleProcess, count: int) -> float:
    def settled() -> bool:
        try:
            return ingestor.counts().settled >= count
        except httpx.TransportError:
            return False

    until(settled, STALL_S_MAX, f"{count} settled")
    return time.perf_counter()
