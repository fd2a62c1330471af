"""Incidents by docs/alerts.md#the-alert-object: what findings write, and what subscribers get."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ingestor.alerts.evaluation import RuleState
from ingestor.alerts.incidents import IncidentChanges, decide
from ingestor.alerts.rules import Candidate
from schema.alert import AlertState, Notification, Severity, alert
from schema.event import DeviceNo, Event
from schema.instants import epoch_us
from schema.presence import presence_changed, silence_alert
from schema.rule import Notify, Op, Rule

START = datetime(2025, 1, 15, 11, 1, tzinfo=UTC)
DEVICE, OTHER = DeviceNo(7), DeviceNo(8)
HOT = Rule(
    rule_id="r1",
    device_id=None,
    tag=None,
    metric="temp",
    op=Op.GT,
    threshold=30.0,
    severity=Severity.CRITICAL,
    for_s=0,
    clear_threshold=None,
    cooldown_s=0,
    notify=Notify.EVERY,
    in_force_from=START,
)


def second(number: float) -> datetime:
    return START + timedelta(seconds=number)


def reading(at: float, value: float, device_id: str = "deviceA") -> Event:
    return Event(device_id, f"e{at:g}", epoch_us(second(at)), {"temp": value}, [], None, 0)


def pair(*pairs: tuple[float, float], rule: Rule = HOT, **state: Any) -> Candidate:
    """An incident that is open counts as notified, unless the test says otherwise."""
    state = {"incident_notified": "incident_id" in state} | state
    state = {"incident_told": state["incident_notified"]} | state
    return Candidate(rule, DEVICE, RuleState(**state), [reading(*each) for each in pairs])


def changes_of(
    *pairs: Candidate, newest: Sequence[datetime | None] | None = None
) -> IncidentChanges:
    changes = decide(pairs, newest or [None] * len(pairs))
    changes.assign_numbers(range(101, 101 + len(changes.opened)))
    return changes


def rows(columns: list[list[Any]]) -> list[tuple[Any, ...]]:
    return list(zip(*columns, strict=True))


def state_rows(changes: IncidentChanges) -> list[tuple[Any, ...]]:
    """The states without what silences, gaps and rates keep, of which there are none."""
    written = rows(changes.state_columns())
    assert all(row[6:] == (row[6], row[6], None, None) for row in written)
    return [row[:7] for row in written]


def lines(notifications: Sequence[Notification]) -> list[tuple[Any, ...]]:
    return [(t.state, t.body["event_id"], t.body["incident_id"], t.late) for t in notifications]


def test_a_first_violation_opens_an_incident_and_is_notified() -> None:
    changes = changes_of(pair((0, 40)))
    assert changes
    assert rows(changes.opened_columns()) == [
        (101, DEVICE, "r1", "critical", second(0), "e0", 40.0, None, None, "temp", ">", 30.0)
    ]
    assert rows(changes.resolved_columns()) == []
    assert state_rows(changes) == [(DEVICE, "r1", None, 101, None, second(0), True)]
    assert lines(changes.notifications()) == [("firing", "e0", 101, False)]


def test_the_value_that_opened_an_incident_is_written_as_a_double() -> None:
    ((*_, value, _, _, _, _, _),) = rows(changes_of(pair((0, 40))).opened_columns())
    assert type(value) is float


def test_a_value_that_clears_resolves_the_incident_of_before() -> None:
    changes = changes_of(pair((5, 30), incident_id=9, decided_at=second(0)))
    assert changes.opened_columns() == []
    assert rows(changes.resolved_columns()) == [(DEVICE, 9, second(5), "e5")]
    assert state_rows(changes) == [(DEVICE, "r1", None, None, None, second(5), False)]
    assert lines(changes.notifications()) == [("resolved", "e5", 9, False)]


def test_a_violation_while_firing_is_notified_but_writes_nothing() -> None:
    changes = changes_of(pair((5, 40), incident_id=9, decided_at=second(0)))
    assert changes
    assert changes.opened_columns() == changes.resolved_columns() == changes.state_columns() == []
    assert lines(changes.notifications()) == [("firing", "e5", 9, False)]


def test_an_incident_that_ends_in_the_batch_it_began_in_is_written_as_resolved() -> None:
    changes = changes_of(pair((0, 40), (1, 20)))
    assert rows(changes.opened_columns()) == [
        (101, DEVICE, "r1", "critical", second(0), "e0", 40.0, second(1), "e1", "temp", ">", 30.0)
    ]
    assert changes.resolved_columns() == []
    assert state_rows(changes) == [(DEVICE, "r1", None, None, None, second(1), False)]
    assert lines(changes.notifications()) == [
        ("firing", "e0", 101, False),
        ("resolved", "e1", 101, False),
    ]


def test_of_several_incidents_in_a_batch_only_the_last_may_stay_open() -> None:
    changes = changes_of(
        pair((0, 20), (1, 40), (2, 20), (3, 40), (4, 50), incident_id=9, decided_at=START)
    )
    assert rows(changes.resolved_columns()) == [(DEVICE, 9, second(0), "e0")]
    assert [(row[0], row[7]) for row in rows(changes.opened_columns())] == [
        (101, second(2)),
        (102, None),
    ]
    assert state_rows(changes) == [(DEVICE, "r1", None, 102, None, second(3), True)]
    assert lines(changes.notifications()) == [
        ("resolved", "e0", 9, False),
        ("firing", "e1", 101, False),
        ("resolved", "e2", 101, False),
        ("firing", "e3", 102, False),
        ("firing", "e4", 102, False),
    ]


def test_a_run_that_waits_for_for_s_is_stored_and_not_notified() -> None:
    rule = replace(HOT, for_s=10)
    changes = changes_of(pair((0, 40), (1, 40), rule=rule))
    assert changes
    assert state_rows(changes) == [(DEVICE, "r1", second(0), None, None, second(0), False)]
    assert changes.notifications() == []
    broken = changes_of(pair((2, 20), rule=rule, pending_since=second(0), decided_at=second(0)))
    assert state_rows(broken) == [(DEVICE, "r1", None, None, None, second(2), False)]
    assert broken.notifications() == []


def test_what_changes_nothing_writes_nothing() -> None:
    assert not changes_of()
    assert not changes_of(pair((0, 20)))
    assert not changes_of(pair((0, 40), rule=replace(HOT, notify=Notify.CHANGE), incident_id=9))


def test_a_late_violation_is_notified_as_late_with_the_open_incident_if_there_is_one() -> None:
    changes = changes_of(pair((0, 40), incident_id=9, decided_at=second(5)), newest=[second(5)])
    assert changes.state_columns() == []
    assert lines(changes.notifications()) == [("firing", "e0", 9, True)]
    changes = changes_of(pair((0, 40)), newest=[second(5)])
    assert changes.opened_columns() == changes.state_columns() == []
    assert lines(changes.notifications()) == [("firing", "e0", None, True)]


def test_under_a_cooldown_the_incident_is_written_and_nothing_else_notified() -> None:
    rule = replace(HOT, cooldown_s=60)
    changes = changes_of(pair((0, 40), (1, 20), (2, 40), rule=rule))
    assert len(changes.opened) == 2
    assert lines(changes.notifications()) == [
        ("firing", "e0", 101, False),
        ("resolved", "e1", 101, False),
    ]
    assert state_rows(changes) == [(DEVICE, "r1", None, 102, second(0), second(2), False)]


def test_an_incident_that_was_not_notified_is_notified_after_the_cooldown_and_never_resolved_before() -> (
    None
):
    rule = replace(HOT, cooldown_s=60, notify=Notify.CHANGE)
    owed = {"incident_id": 9, "incident_notified": False, "notified_at": second(0)}
    assert lines(changes_of(pair((59, 20), rule=rule, **owed)).notifications()) == []
    changes = changes_of(pair((59, 40), (60, 41), (61, 42), (62, 20), rule=rule, **owed))
    assert lines(changes.notifications()) == [
        ("firing", "e60", 9, False),
        ("resolved", "e62", 9, False),
    ]
    assert state_rows(changes) == [(DEVICE, "r1", None, None, second(60), second(62), False)]
    changes = changes_of(pair((60, 40), rule=rule, **owed))
    assert state_rows(changes) == [(DEVICE, "r1", None, 9, second(60), None, True)]


def test_pairs_keep_their_incidents_apart() -> None:
    cold = replace(HOT, rule_id="r2", op=Op.LT, threshold=50.0)
    other = Candidate(HOT, OTHER, RuleState(), [reading(2, 60, "deviceB")])
    changes = changes_of(pair((0, 40)), pair((1, 45), rule=cold, incident_id=9), other)
    assert [row[:3] for row in rows(changes.opened_columns())] == [
        (101, DEVICE, "r1"),
        (102, OTHER, "r1"),
    ]
    assert [(t.device_id, t.rule_id, t.body["incident_id"]) for t in changes.notifications()] == [
        ("deviceA", "r1", 101),
        ("deviceA", "r2", 9),
        ("deviceB", "r1", 102),
    ]


# -- The alert object. --


def test_the_alert_object_has_the_documented_fields_in_their_order() -> None:
    event = Event(
        "deviceA", "e1", epoch_us(START), {"temp": 40, "hum": 0.5}, ["x"], 4, epoch_us(START) + 1
    )
    changes = changes_of(Candidate(HOT, DEVICE, RuleState(), [event]))
    (notification,) = changes.notifications()
    assert (notification.kind, notification.device_id, notification.rule_id) == (
        "alert",
        "deviceA",
        "r1",
    )
    assert (notification.state, notification.late) == ("firing", False)
    assert json.dumps(notification.body) == json.dumps(
        {
            "device_id": "deviceA",
            "metrics": {"temp": 40, "hum": 0.5},
            "time": "2025-01-15 11:01:00",
            "timestamp": "2025-01-15T11:01:00Z",
            "id": None,  # The feed gives it its number.
            "incident_id": 101,
            "rule_id": "r1",
            "metric": "temp",
            "value": 40,
            "op": ">",
            "threshold": 30,
            "severity": "critical",
            "state": "firing",
            "late": False,
            "event_id": "e1",
            "rule_name": None,
            "muted": False,
        }
    )


def test_the_alert_object_begins_byte_for_byte_as_the_older_service_wrote_it() -> None:
    (notification,) = changes_of(pair((0, 40.0))).notifications()
    body = json.dumps({**notification.body, "metrics": {"temp": 40}}, separators=(",", ":"))
    assert body.startswith(
        '{"device_id":"deviceA","metrics":{"temp":40},"time":"2025-01-15 11:01:00",'
    )


@pytest.mark.parametrize(
    ("instant", "time", "timestamp"),
    [
        (START, "2025-01-15 11:01:00", "2025-01-15T11:01:00Z"),
        (
            START.replace(microsecond=250_000),
            "2025-01-15 11:01:00.250000",
            "2025-01-15T11:01:00.25Z",
        ),
        (
            START.astimezone(timezone(timedelta(hours=-5))),
            "2025-01-15 11:01:00",
            "2025-01-15T11:01:00Z",
        ),
    ],
)
def test_both_times_are_utc_with_a_fraction_only_if_it_is_not_zero(
    instant: datetime, time: str, timestamp: str
) -> None:
    body = alert(
        device_id="deviceA",
        metrics={},
        time=instant,
        incident_id=1,
        rule_id="r1",
        severity="warning",
        state=AlertState.FIRING,
    ).body
    assert (body["time"], body["timestamp"]) == (time, timestamp)


@pytest.mark.parametrize(
    ("value", "threshold", "written"),
    [(40, 30.0, '"value": 40, "op": ">", "threshold": 30'), (40.5, 30.25, None)],
)
def test_integral_numbers_are_written_without_a_decimal_point(
    value: float, threshold: float, written: str | None
) -> None:
    (notification,) = changes_of(
        pair((0, value), rule=replace(HOT, threshold=threshold))
    ).notifications()
    written = written or f'"value": {value}, "op": ">", "threshold": {threshold}'
    assert written in json.dumps(notification.body)


def test_a_resolved_object_names_the_event_that_cleared() -> None:
    (notification,) = changes_of(pair((5, 20), incident_id=9)).notifications()
    body = notification.body
    assert (body["state"], body["value"], body["event_id"]) == ("resolved", 20, "e5")
    assert body["incident_id"] == 9


def test_silence_is_notified_as_an_alert_of_the_rule_silent() -> None:
    notification = silence_alert("deviceA", 3, START, AlertState.FIRING)
    assert (notification.kind, notification.device_id, notification.rule_id) == (
        "alert",
        "deviceA",
        "silent",
    )
    assert list(notification.body)[:3] == ["device_id", "metrics", "time"]
    assert (notification.body["incident_id"], notification.body["state"]) == (3, "firing")


def test_a_change_of_presence_is_notified_with_the_documented_fields() -> None:
    notification = presence_changed("deviceA", "offline", START, "silence", None)
    assert (notification.kind, notification.rule_id) == ("presence", None)
    assert notification.body == {
        "id": None,
        "device_id": "deviceA",
        "state": "offline",
        "since": "2025-01-15T11:01:00Z",
        "reason": "silence",
        "last_seen": None,
    }
    returned = presence_changed("deviceA", "online", START, "birth", START)
    assert returned.body["last_seen"] == "2025-01-15T11:01:00Z"
