"""Every worker reports health and metrics of all workers."""

from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.serve.workers import Report, Worker, merged_health, merged_metrics
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.version import VERSION


def report(events: int, **failing: str) -> Report:
    """The report of a worker that received and stored so many events."""
    registry, health = CollectorRegistry(), Health(("database",))
    health.report("database", ok=True, detail="reachable")
    for name, detail in failing.items():
        health.report(name, ok=False, detail=detail)
    metrics = Metrics(registry)
    metrics.watch(health)
    counts = metrics.events_of("mqtt")
    counts.received, counts.stored = events, events
    metrics.request_seconds.labels("GET", '/odd} "\\{ route', "200").observe(0.1)
    return {"health": health.document(VERSION), "metrics": generate_latest(registry).decode()}


def samples(text: bytes, name: str) -> dict[str, float]:
    """The values of a metric by worker."""
    return {
        sample.labels["worker"]: sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    }


def test_every_sample_names_its_worker_and_each_family_stands_once() -> None:
    reports: dict[int, Report | None] = {1: report(3), 2: report(4)}
    text = merged_metrics(reports)
    assert samples(text, "voltwire_events_stored_total") == {"1": 3, "2": 4}
    assert samples(text, "voltwire_streams") == {"1": 0, "2": 0}
    families = [each.name for each in text_string_to_metric_families(text.decode())]
    assert len(families) == len(set(families))
    alone = report(3)["metrics"]
    assert families == [each.name for each in text_string_to_metric_families(alone)]
    before = {
        (sample.name, *sorted(sample.labels.items()), sample.value)
        for family in text_string_to_metric_families(alone)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    after = {
        (sample.name, *sorted(labels.items()), sample.value)
        for family in text_string_to_metric_families(merged_metrics({1: report(3)}).decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
        and (labels := {k: v for k, v in sample.labels.items() if k != "worker"}) is not None
    }
    assert after == before


def test_a_worker_that_does_not_answer_is_a_failing_check() -> None:
    checks = samples(merged_metrics({1: report(1), 2: None}), "voltwire_check")
    assert checks == {"1": 1, "2": 0}
    assert samples(merged_metrics({1: None}), "voltwire_check") == {"1": 0}


def test_health_is_ok_when_each_worker_is() -> None:
    merged = merged_health({1: report(1), 2: report(1)}, Health(()))
    assert merged["status"] == "ok"
    assert merged["checks"] == {
        "database": {"status": "ok", "detail": "reachable"},
        "workers": {"status": "ok", "detail": "2 workers answer"},
    }


def test_health_names_the_first_worker_that_fails() -> None:
    away = report(1, database="unavailable")
    merged = merged_health({1: report(1), 2: away, 3: away}, Health(()))
    assert merged["status"] == "failing"
    assert merged["checks"]["database"]["detail"] == "worker 2: unavailable"


def test_a_silent_worker_counts_where_it_is_required() -> None:
    reports: dict[int, Any] = {1: report(1), 2: None}
    assert merged_health(reports, Health(("workers",)))["status"] == "failing"
    merged = merged_health(reports, Health(()))
    assert merged["status"] == "ok"
    assert merged["checks"]["workers"] == {
        "status": "failing",
        "detail": "no response from worker 2",
    }


def test_a_worker_survives_the_command_line() -> None:
    worker = Worker(Path("/tmp/voltwire-a:b"), 2, 3)
    assert Worker.parse(str(worker)) == worker
