"""The presence of a device: its states, the times that decide them, and its notifications.

The queries that decide (`update_presence` and `insert_keys` of the ingestor, `sweep_presence` of the
scheduler) take these times from here.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from schema.alert import SILENT_RULE, AlertState, Notification, Severity, alert
from schema.instants import rfc3339

LATE_INTERVALS = 1.5  # A device is late after this many expected intervals of silence,
OFFLINE_INTERVALS = 2  # and offline after this many,
OFFLINE_S_MIN = 10  # but never sooner than this.
WILL_GRACE_S = 10  # A last will takes effect if nothing newer arrives for this long.
SLEEP_GRACE_S = 10  # Telemetry that another member delivers within this time does not end a sleep.
# last_seen is not updated while it is fresher than this: most messages write nothing.
LAST_SEEN_STEP_S_MAX = 1
# With a short interval it is not updated while it is fresher than this share of the interval.
LAST_SEEN_STEP_INTERVALS = 0.1
CANARY_STALE_S = 10  # A client without a canary for this long does not receive what devices send.
# The learned interval is the third longest of the last seven gaps, from five on; each is the longest gap of
# a span of time (columns gaps and learned_s of presence; docs/decisions/0038-learned-interval.md).
GAP_S_MIN = 1  # Signs of life within this time count as one.
# Before an interval is learned, each gap is a span. Then a span lasts this many learned intervals,
SPAN_INTERVALS = 3
SPAN_GAPS = 0.5  # but at least this share of the gap that begins it, so that it holds a burst after that gap,
SPAN_GAPS_S_MAX = 3600  # of at most this: a new rhythm is learned soon after days of silence.
FLAPPING_CHANGES = 6  # A device with more changes of state than this
FLAPPING_S = 3600  # within this time is flapping, until it had none for this time.

TIMES: dict[str, float] = {
    "late_intervals": LATE_INTERVALS,
    "offline_intervals": OFFLINE_INTERVALS,
    "offline_s_min": OFFLINE_S_MIN,
    "will_grace_s": WILL_GRACE_S,
    "sleep_grace_s": SLEEP_GRACE_S,
    "last_seen_step_s_max": LAST_SEEN_STEP_S_MAX,
    "last_seen_step_intervals": LAST_SEEN_STEP_INTERVALS,
    "canary_stale_s": CANARY_STALE_S,
    "gap_s_min": GAP_S_MIN,
    "span_intervals": SPAN_INTERVALS,
    "span_gaps": SPAN_GAPS,
    "span_gaps_s_max": SPAN_GAPS_S_MAX,
    "flapping_changes": FLAPPING_CHANGES,
    "flapping_s": FLAPPING_S,
}


class PresenceState(StrEnum):
    NEVER_SEEN = "never_seen"
    ONLINE = "online"
    ASLEEP = "asleep"
    LATE = "late"
    OFFLINE = "offline"


class IntervalSource(StrEnum):
    """Where the expected interval of a silence comes from; the first that exists counts."""

    ANNOUNCED = "announced"
    DEVICE = "device"
    PROFILE = "profile"
    LEARNED = "learned"
    NONE = "none"


def presence_changed(
    device_id: str,
    state: str,
    since: datetime,
    reason: str,
    last_seen: datetime | None,
) -> Notification:
    return Notification(
        kind="presence",
        device_id=device_id,
        rule_id=None,
        state=state,
        late=False,
        body={
            "id": None,
            "device_id": device_id,
            "state": state,
            "since": rfc3339(since),
            "reason": reason,
            "last_seen": None if last_seen is None else rfc3339(last_seen),
        },
    )


def presence_forgotten(device_id: str, since: datetime) -> Notification:
    """The device was deleted; over MQTT its retained presence is cleared."""
    return presence_changed(device_id, PresenceState.NEVER_SEEN, since, "forgotten", None)


def silence_alert(
    device_id: str,
    incident_id: int,
    at: datetime,
    state: AlertState,
    *,
    muted: bool = False,
    channels: Sequence[str] | None = None,
) -> Notification:
    """The built-in rule: `offline` opens its incident, life resolves it. `at` is a time of receipt."""
    return alert(
        device_id=device_id,
        metrics={},
        time=at,
        incident_id=incident_id,
        rule_id=SILENT_RULE,
        severity=Severity.WARNING,
        state=state,
        muted=muted,
        channels=channels or (),
    )
