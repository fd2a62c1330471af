"""The fleet of the demo: who its 20 devices are, how each behaves, and the rules that watch them."""

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

OVERHEATING = Behaviour(
    INTERVAL_S, capacity_ah=PACK_AH, overheating=Spell(-MINUTE_S, 4 * DAY_S, 90 * MINUTE_S)
)
DROPPING = Behaviour(
    INTERVAL_S, capacity_ah=PACK_AH, voltage_drop=Spell(40, 30 * MINUTE_S, MINUTE_S)
)
# Four changes of presence in any hour at most, as those of SLEEPER: seven would be flapping.
DYING = Behaviour(INTERVAL_S, capacity_ah=PACK_AH, dead=Spell(20, 45 * MINUTE_S, MINUTE_S))
FORGETFUL = Behaviour(
    INTERVAL_S,
    capacity_ah=PACK_AH,
    forgotten_percent=8,
    dead=Spell(-9 * HOUR_S, 6 * DAY_S, 5 * HOUR_S),
)
STEADY = Behaviour(INTERVAL_S, capacity_ah=PACK_AH)
BAD_LINK = Behaviour(INTERVAL_S, 20, 20, capacity_ah=PACK_AH)
SLEEPER = Behaviour(MINUTE_S, sleep_s=30 * MINUTE_S, capacity_ah=PACK_AH)
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
        name="Pack too warm", metric="temp_c", op=Op.GT, threshold=50, clear_threshold=45,
        severity=Severity.CRITICAL, notify=Notify.CHANGE,
    ),
    RuleBody(
        name="Voltage drop", metric="voltage_v", op=Op.LT, threshold=300, notify=Notify.CHANGE
    ),
)  # fmt: skip
