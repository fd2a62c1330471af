"""Home Assistant's MQTT discovery: one retained message per device, with a sensor for each of its metrics.

Home Assistant (2024.11 and newer) takes values from the telemetry of the device, and from `presence/…`
whether it is available. The messages are computed again every DISCOVERY_S and published where they changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec

from broker import topics
from runtime.settings import Settings
from runtime.version import VERSION
from schema.database import Connection
from schema.queries import load_queries

DISCOVERY_S = 30.0
PAGE_DEVICES = 200
NEWEST_EVENTS = 10  # Read per device: they show metrics that have no rollup yet.
METRICS_MAX = 256  # Announced per device, by name; further ones are not.

queries = load_queries(
    "scheduler", "home_assistant.sql", {"newest_events": NEWEST_EVENTS, "metrics_max": METRICS_MAX}
)


@dataclass(frozen=True, slots=True)
class SensorKind:
    """What Home Assistant calls a unit, and its device class; an unsuitable class would be refused."""

    unit: str
    device_class: str | None = None
    state_class: str = "measurement"


# Kinds by the unit of a profile, in its common spellings and those of UCUM.
KINDS = {
    **dict.fromkeys(("Cel", "°C", "C", "degC"), SensorKind("°C", "temperature")),
    **dict.fromkeys(("[degF]", "°F", "degF"), SensorKind("°F", "temperature")),
    **{unit: SensorKind(unit, "voltage") for unit in ("V", "mV")},
    **{unit: SensorKind(unit, "current") for unit in ("A", "mA")},
    **{unit: SensorKind(unit, "power") for unit in ("W", "kW", "MW")},
    **{unit: SensorKind(unit, "energy", "total") for unit in ("Wh", "kWh", "MWh")},
    **{unit: SensorKind(unit, "pressure") for unit in ("Pa", "hPa", "kPa", "bar", "mbar", "psi")},
    **{unit: SensorKind(unit, "frequency") for unit in ("Hz", "kHz", "MHz")},
    **{unit: SensorKind(unit, "speed") for unit in ("m/s", "km/h", "mph")},
    **{unit: SensorKind(unit, "distance") for unit in ("mm", "cm", "m", "km")},
    **{unit: SensorKind(unit, "weight") for unit in ("g", "kg")},
    **{unit: SensorKind(unit, "duration") for unit in ("ms", "s", "min", "h", "d")},
    "VA": SensorKind("VA", "apparent_power"),
    "dBm": SensorKind("dBm", "signal_strength"),
    "lx": SensorKind("lx", "illuminance"),
}
PERCENTAGES = {"soc": "battery", "battery": "battery", "humid": "humidity", "moisture": "moisture"}

# In a message with several events the last one counts. A metric that it does not have changes nothing: Home
# Assistant ignores an empty text for a number.
VALUE = (
    "{{% set event = value_json if value_json is mapping else value_json | last %}}"
    "{{{{ (event.metrics | default({{}})).get('{metric}', '') }}}}"
)
AVAILABLE = (
    "{{ 'online' if (value_json | default({})).state in ['online', 'asleep', 'late']"
    " else 'offline' }}"
)


class Discovery:
    """What was announced, so that only changes are published."""

    def __init__(self, settings: Settings) -> None:
        self._instance, self._profile = settings.instance, settings.default_profile
        self._public_url = settings.public_url
        self._announced: dict[str, bytes] = {}

    async def page(self, connection: Connection, after: str) -> tuple[dict[str, bytes], str | None]:
        """What is new about the next devices: payloads by device; and after which device to go on."""
        rows = await connection.fetch(
            queries.devices_with_metrics, after, PAGE_DEVICES, self._profile
        )
        found = {row["device_id"]: self._payload(row) for row in rows}
        changed = {
            name: payload
            for name, payload in found.items()
            if payload != self._announced.get(name, b"")
        }
        return changed, rows[-1]["device_id"] if rows else None

    def topic(self, device_id: str) -> str:
        return topics.discovery(self._instance, device_id)

    def remember(self, announced: Mapping[str, bytes]) -> None:
        self._announced |= announced

    def forget(self, device_ids: Sequence[str] | None = None) -> None:
        """Announce these again, or all: the broker does not retain them any more."""
        for name in list(self._announced) if device_ids is None else device_ids:
            self._announced.pop(name, None)

    def _payload(self, row: asyncpg.Record) -> bytes:
        """Empty, which removes the device from Home Assistant, as long as it has no metrics."""
        if not row["metrics"]:
            return b""
        units: dict[str, Any] = msgspec.json.decode(row["units"] or "{}")
        device_id = row["device_id"]
        name = ":".join(("voltwire", topics.slug(self._instance), topics.slug(device_id)))
        device = {"identifiers": [name], "name": row["name"], "model": row["profile"]}
        if self._public_url is not None:
            device["configuration_url"] = self._public_url
        return msgspec.json.encode(
            {
                "device": device,
                "origin": {"name": "Voltwire", "sw_version": VERSION},
                "state_topic": topics.device(device_id, topics.TopicKind.TELEMETRY),
                "availability": [
                    {"topic": topics.presence(device_id), "value_template": AVAILABLE}
                ],
                "qos": 1,
                "components": {
                    topics.slug(metric): _sensor(
                        metric, f"{name}:{topics.slug(metric)}", units.get(metric, {}).get("unit")
                    )
                    for metric in row["metrics"]
                },
            }
        )


def _sensor(metric: str, unique_id: str, unit: str | None) -> dict[str, str]:
    kind = _kind(metric, unit)
    found = {
        "platform": "sensor",
        "name": metric,
        "unique_id": unique_id,
        "value_template": VALUE.format(metric=metric),
        "state_class": kind.state_class,
    }
    if kind.unit:
        found["unit_of_measurement"] = kind.unit
    if kind.device_class is not None:
        found["device_class"] = kind.device_class
    return found


def _kind(metric: str, unit: str | None) -> SensorKind:
    """A unit that Home Assistant does not know is shown as it is, without a device class."""
    if unit == "%":
        words = (name for word, name in PERCENTAGES.items() if word in metric.lower())
        return SensorKind("%", next(words, None))
    return KINDS.get(unit or "", SensorKind(unit or ""))
