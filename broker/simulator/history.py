"""What a device would have measured before its boot: closer together the newer it is. Pure."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from broker.simulator.device import BatteryDevice

HOUR_S, DAY_S = 3600, 86_400
# Ages in seconds: from, until, and the time between two events. Each range of a chart finds enough of them.
SPANS = (
    (30 * DAY_S, 7 * DAY_S, HOUR_S),
    (7 * DAY_S, DAY_S, 900),
    (DAY_S, HOUR_S, 180),
    (HOUR_S, -1, 15),  # The last one is that of the boot.
)


def history(device: BatteryDevice, age_s_max: float) -> Iterator[dict[str, Any]]:
    """Events as a post has them, the oldest first; the device continues from the last one."""
    for age_s, step_s in _ages(age_s_max):
        event = device.event(device.booted_at - timedelta(seconds=age_s), step_s)
        if event is not None:
            yield {"device_id": device.device_id, **event}


def _ages(age_s_max: float) -> Iterator[tuple[int, int]]:
    for oldest_s, newest_s, step_s in SPANS:
        for age_s in range(oldest_s, newest_s, -step_s):
            if age_s <= age_s_max:
                yield age_s, step_s
