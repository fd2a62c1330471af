"""What people read of an alert."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from scheduler.channels.messages import Pending, single
from schema.alert import AlertState, alert

OPENED_AT = "2026-05-01T00:00:00Z"


def pending(state: AlertState) -> Pending:
    made = alert(
        device_id="d1",
        metrics={"temp_c": 70},
        time=datetime(2026, 5, 1, 2, tzinfo=UTC),
        incident_id=7,
        rule_id="r1",
        severity="warning",
        state=state,
        metric="temp_c",
        value=70.0,
        op=">",
        threshold=60.0,
    )
    return Pending(1, made.body, b"{}", None, "Cel", OPENED_AT)


@pytest.mark.parametrize(
    ("state", "span"),
    [
        (AlertState.FIRING, "Since 2026-05-01T00:00:00Z, severity warning."),
        (
            AlertState.RESOLVED,
            "From 2026-05-01T00:00:00Z to 2026-05-01T02:00:00Z, severity warning.",
        ),
    ],
)
def test_a_message_says_the_value_with_its_unit_and_since_when(
    state: AlertState, span: str
) -> None:
    lines = single(pending(state), "https://v.example").text.split("\n")
    what = "d1: temp_c is 70 °C (rule: temp_c > 60)."
    assert lines == [what, span, "https://v.example/#/alerts/7"]


def test_an_incident_that_is_gone_is_said_by_the_time_of_the_alert() -> None:
    lines = single(replace(pending(AlertState.FIRING), opened_at=None), None).text.split("\n")
    assert lines[1:] == ["Since 2026-05-01T02:00:00Z, severity warning."]
