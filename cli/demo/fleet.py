"""The fleet of the demo: who its 20 devices are, how each behaves, and the rules that watch them."""

from dataclasses import replace
from functools import partial

from broker.simulator.device import Behaviour, Spell
from schema.alert import Severity
from schema.registry import NewDeviceBody
from schema.rule import Notify, Op, RuleBody

PREFIX = "demo"
SEED = 16
INTERVAL_S = 2.0
EXPECTED_S = 10.0  # An event that is lost or forgotten makes nobody late.
PACK_AH = 600.0  # A full cycle takes most of a day: a chart of a month shows days.
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400

# Rules are about this tag: in a database with devices of its own they concern none of those.
TAG = "demo"

_behaviour = partial(Behaviour, INTERVAL_S, capacity_ah=PACK_AH, tags=(TAG,))
OVERHEATING = _behaviour(overheating=Spell(-MINUTE_S, 4 * DAY_S, 90 * MINUTE_S))
DROPPING = _behaviour(voltage_drop=Spell(40, 30 * MINUTE_S, MINUTE_S))
# Four changes of presence in any hour at most, as those of SLEEPER: seven would be flapping.
DYING = _behaviour(dead=Spell(20, 45 * MINUTE_S, MINUTE_S))
FORGETFUL = _behaviour(forgotten_percent=8, dead=Spell(-9 * HOUR_S, 6 * DAY_S, 5 * HOUR_S))
STEADY = _behaviour()
BAD_LINK = _behaviour(loss_percent=20, duplicate_percent=20)
SLEEPER = replace(STEADY, interval_s=MINUTE_S, sleep_s=30 * MINUTE_S)
BEHAVIOURS = (
    OVERHEATING, DROPPING, DYING, FORGETFUL, *[STEADY] * 12, BAD_LINK, *[SLEEPER] * 3,
)  # fmt: skip

# Who they are, in the order of BEHAVIOURS: kind, how many of them, tags.
_KINDS = (
    ("Forklift", 8, ["site:hamburg"]),
    ("Tow tractor", 4, ["site:hamburg"]),
    ("Shuttle bus", 5, ["site:rotterdam"]),
    ("Buoy", 3, ["site:rotterdam"]),
)
_NAMES = [(f"{kind} {n}", tags) for kind, count, tags in _KINDS for n in range(1, count + 1)]
REGISTRATIONS = tuple(
    NewDeviceBody(
        device_id=f"{PREFIX}-{number:03}",
        name=name,
        tags=tags,
        interval_s=None if behaviour is SLEEPER else EXPECTED_S,
    )
    for number, ((name, tags), behaviour) in enumerate(zip(_NAMES, BEHAVIOURS, strict=True), 1)
)

RULES = (
    RuleBody(
        name="Pack too warm", tag=TAG, metric="temp_c", op=Op.GT, threshold=50, clear_threshold=45,
        severity=Severity.CRITICAL, notify=Notify.CHANGE,
    ),
    RuleBody(
        name="Voltage drop", tag=TAG, metric="voltage_v", op=Op.LT, threshold=300,
        notify=Notify.CHANGE,
    ),
)  # fmt: skip
