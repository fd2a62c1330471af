"""The shipped scrape file and alert rules: valid, about metrics that exist, and firing when they must."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from runtime.health import Health
from runtime.metrics import Metrics
from schema.event import Reason
from tests.support.processes.programs import require_program

FOLDER = Path(__file__).parents[3] / "deploy/prometheus"
RULES = FOLDER / "voltwire.rules.yml"
METRIC = re.compile(r"\bvoltwire_\w+")
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
}
RECEIVED = 'voltwire_messages_received_total{instance="a",kind="other",qos="1"}'
SILENCE = 'voltwire_job_succeeded_timestamp_seconds{instance="a",task="silence",job="voltwire"}'
REQUESTS = "voltwire_http_request_duration_seconds_count"
OK, FAILED, REFUSED = (f'{REQUESTS}{{status="{status}"}}' for status in (200, 503, 422))
DROPPED = "voltwire_broker_dropped_messages"
REJECTED = 'voltwire_events_rejected_total{door="mqtt",reason="bad_json"}'
STORING = 'voltwire_check{check="storing",instance="a"}'
# Alert, a sample every 15 s, and the labels with which it fires after 10 minutes (None: it does not).
CASES: list[tuple[str, dict[str, str], dict[str, str] | None]] = [
    ("VoltwireReceivesNothing", {RECEIVED: "0+6x20 120x30"}, {"instance": "a"}),
    ("VoltwireReceivesNothing", {RECEIVED: "0+6x50"}, None),
    ("VoltwireNobodyReceives", {"other": "1x50"}, {}),
    ("VoltwireNobodyReceives", {RECEIVED: "0+6x50"}, None),
    ("VoltwireJobNotSucceeded", {SILENCE: "0+15x20 300x30"}, {"task": "silence"}),
    ("VoltwireJobNotSucceeded", {SILENCE: "0+15x50"}, None),
    ("VoltwireBrokerDropsMessages", {DROPPED: "0x30 5x20"}, {}),
    ("VoltwireBrokerDropsMessages", {DROPPED: "5x50"}, None),
    ("VoltwireDeadLetters", {REJECTED: "0x20 3x30"}, {"door": "mqtt", "reason": "bad_json"}),
    ("VoltwireDeadLetters", {REJECTED: "3x50"}, None),
    ("VoltwireApiErrors", {OK: "0+60x50", FAILED: "0+6x50"}, {}),
    ("VoltwireApiErrors", {OK: "0+60x50", REFUSED: "0+6x50"}, None),
    ("VoltwireStoresNothing", {STORING: "1x20 0x30"}, {"check": "storing", "instance": "a"}),
]


def promtool(*arguments: str | Path) -> str:
    """What promtool says, of Debian's package prometheus."""
    program = require_program("promtool")
    result = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def exposed_names() -> set[str]:
    """The names of all samples that our processes can expose."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, tuple(Reason))
    metrics.watch(Health(()))
    text = generate_latest(registry).decode()
    names = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    histograms = re.findall(r"^# TYPE (\w+) histogram", text, re.MULTILINE)
    return names | {f"{name}_{part}" for name in histograms for part in ("count", "sum", "bucket")}


def test_promtool_accepts_the_scrape_file_and_the_rules() -> None:
    said = promtool("check", "config", FOLDER / "prometheus.yml")
    assert f"{len(ALERTS)} rules found" in said


def test_every_metric_of_the_rules_exists() -> None:
    named = set(METRIC.findall("\n".join(str(rule["expr"]) for rule in ALERTS.values())))
    assert named
    assert named <= exposed_names()


def test_no_metric_of_ours_has_a_label_that_prometheus_sets_itself() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.job_runs.labels(task="silence", outcome="ok").inc()
    metrics.job_succeeded_at.labels(task="silence").set(1)
    labels = {
        name for each in registry.collect() for sample in each.samples for name in sample.labels
    }
    assert not labels & {"job", "instance"}


@pytest.mark.parametrize("rule", ALERTS.values(), ids=ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    for sentence in rule["annotations"]["summary"], rule["annotations"]["description"]:
        assert sentence.endswith(".")


@pytest.mark.parametrize(("alert", "samples", "fires"), CASES)
def test_an_alert_fires_when_it_must_and_not_otherwise(
    tmp_path: Path, alert: str, samples: dict[str, str], fires: dict[str, str] | None
) -> None:
    severity = {"severity": ALERTS[alert]["labels"]["severity"]}
    expected = {} if fires is None else {"exp_alerts": [{"exp_labels": fires | severity}]}
    firing = {"eval_time": "10m", "alertname": alert}
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in samples.items()],
        "alert_rule_test": [firing | expected],
    }
    # promtool compares annotations too: their templates are not what this test is about.
    plain = yaml.safe_load(RULES.read_text())
    for rule in plain["groups"][0]["rules"]:
        rule["annotations"] = {}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(plain))
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": [test]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(document))
    promtool("test", "rules", tmp_path / "test.yml")
