"""What a device would have measured before its boot: closer together the newer it is. Pure."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from broker.simulator.device import BatteryDevice, Spell

HOUR_S, DAY_S = 3600, 86_400
# Ages in seconds: from, until, and the time between two events. Each range of a chart finds enough of them.
SPANS = (
    (30 * DAY_S, 7 * DAY_S, HOUR_S),
    (7 * DAY_S, DAY_S, 900),
    (DAY_S, HOUR_S, 180),
    (HOUR_S, -1, 15),  # The last one is that of the boot.
)
# While a pack overheats, and as long around it as the chart of that incident shows.
CLOSE_S, AROUND_S = 30, 3000


def history(
    device: BatteryDevice, oldest_s: float, newest_s: float = 0
) -> Iterator[dict[str, Any]]:
    """Events as a post has them, the oldest first; the device continues from the last one.

    A history in parts must be asked for in order, each from the age at which the former one ended:
    0 is the boot, and only the part that ends there includes its end.
    """
    for age_s, step_s in _ages(device.behaviour.overheating):
        if not (newest_s or -1) < age_s <= oldest_s:
            continue
        event = device.event(device.booted_at - timedelta(seconds=age_s), step_s)
        if event is not None:
            yield {"device_id": device.device_id, **event}


def _ages(overheating: Spell | None) -> Iterator[tuple[int, int]]:
    """Each with the seconds since the one before."""
    since_s = HOUR_S
    for oldest_s, newest_s, span_step_s in SPANS:
        for start_s in range(oldest_s, newest_s, -span_step_s):
            step_s = span_step_s
            if overheating is not None and _touches(overheating, start_s, span_step_s):
                step_s = min(step_s, CLOSE_S)
            for age_s in range(start_s, start_s - span_step_s, -step_s):
                yield age_s, since_s
                since_s = step_s


def _touches(spell: Spell, age_s: float, step_s: float) -> bool:
    around = Spell(spell.first_s - AROUND_S, spell.every_s, spell.lasts_s + 2 * AROUND_S)
    return around.covers(-age_s) or around.next_in_s(-age_s) < step_s
