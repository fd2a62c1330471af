"""What `voltwire watch` knows of a fleet, and how it draws it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from cli.watch.fleet import WatchedFleet
from cli.watch.screen import lines, screen
from cli.watch.stream import Frame, Snapshot

NOW = datetime(2026, 2, 1, 14, 23, 45, tzinfo=UTC)


def row(device_id: str, state: str = "online", **fields: Any) -> dict[str, Any]:
    return {"device_id": device_id, "state": state, "name": None, "last_seen": None} | fields


def event(device_id: str, **metrics: float) -> dict[str, Any]:
    at = "2026-02-01T14:23:43Z"
    return {"device_id": device_id, "timestamp": at, "received_at": at, "metrics": metrics}


def alert(device_id: str, incident_id: int, **fields: Any) -> dict[str, Any]:
    return {
        "device_id": device_id, "incident_id": incident_id, "rule_id": "r1", "rule_name": "Hot",
        "timestamp": "2026-02-01T14:00:00Z", "metric": "temp", "op": ">", "threshold": 32,
        "value": 40, "late": False,
    } | fields  # fmt: skip


def fleet(*rows: dict[str, Any], complete: bool = True) -> WatchedFleet:
    begun = WatchedFleet()
    begun.begin(Snapshot(list(rows), [], complete))
    return begun


def drawn(watched: WatchedFleet, *, height: int = 40, trouble: str | None = None) -> str:
    console = Console(width=120, height=height, color_system=None)
    with console.capture() as capture:
        console.print(screen(watched, trouble, NOW, height))
    return capture.get()


def test_a_device_shows_its_state_age_and_newest_values() -> None:
    watched = fleet(row("a", name="Boiler"))
    watched.take(Frame("latest", [event("a", temp=21.5, cpu=0.44)]))
    watched.take(Frame("latest", [event("a", temp=22)]))
    shown = drawn(watched)
    assert "1 devices  1 online" in shown
    assert " ".join(shown.splitlines()[2].split()) == "a Boiler online 2 s ago cpu 0.44 temp 22"


def test_devices_in_trouble_come_first_and_the_rest_is_counted() -> None:
    watched = fleet(*(row(f"d{n:03}") for n in range(100)), row("z", "offline"))
    watched.take(Frame("alert", alert("d050", 7)))
    assert [each.device_id for each in watched.sorted_devices()][:3] == ["d050", "z", "d000"]
    shown = drawn(watched, height=20)
    assert shown.count("\n") <= 20
    assert "more devices" in shown
    watched.take(Frame("resolved", alert("d050", 7)))
    assert [each.device_id for each in watched.sorted_devices()][:2] == ["z", "d000"]


def test_presence_and_alerts_change_the_table_and_a_new_device_appears() -> None:
    watched = fleet()
    assert "No device has sent anything yet" in drawn(watched)
    watched.take(Frame("presence", {"device_id": "new", "state": "late", "last_seen": None}))
    watched.take(Frame("alert", alert("new", 7)))
    shown = drawn(watched)
    assert "late !" in shown
    assert "Hot: temp 40 (rule: > 32)" in shown


def test_a_lost_connection_is_said_above_the_table() -> None:
    assert "No connection (Connection refused): trying again" in drawn(
        fleet(), trouble="Connection refused"
    )


def test_the_age_is_written_in_the_largest_unit_that_fits() -> None:
    ages = {
        1: "1 s ago",
        119: "119 s ago",
        120: "2 min ago",
        7200: "2 h ago",
        86_400 * 9: "9 d ago",
    }
    for seconds, text in ages.items():
        seen = (NOW - timedelta(seconds=seconds)).isoformat()
        assert text in drawn(fleet(row("a", last_seen=seen)))


def test_names_command_no_terminal() -> None:
    assert "\x1b" not in drawn(fleet(row("a", name="evil\x1b[2J")))
    assert "[red]" in drawn(fleet(row("a", name="[red]")))


def test_elsewhere_each_event_change_and_alert_is_a_line() -> None:
    change = {"device_id": "a", "state": "offline", "since": "T", "reason": "will"}
    silent = alert("a", 7, rule_id="silent", rule_name=None, metric=None, value=None)
    frames = [
        Frame("latest", [event("a", temp=1)]),
        Frame("presence", change),
        Frame("resolved", silent),
        Frame("unknown", {}),
    ]
    assert [line for frame in frames for line in lines(frame)] == [
        "2026-02-01T14:23:43Z a temp 1",
        "T a is offline (will)",
        "2026-02-01T14:00:00Z a resolved: silent",
    ]
