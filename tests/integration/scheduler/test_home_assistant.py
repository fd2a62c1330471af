"""Home Assistant's discovery: what the relay publishes, by the rules of Home Assistant's documents."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from jinja2.sandbox import SandboxedEnvironment
from pydantic import SecretStr

from broker import topics
from runtime.metrics import Metrics
from runtime.settings import Settings
from scheduler import home_assistant, relay
from scheduler.home_assistant import KINDS, METRICS_MAX, PERCENTAGES
from scheduler.relay import OutboxRelay
from scheduler.rollups import roll
from schema.database import Connection
from tests.integration.conftest import Doors
from tests.support.brokers.mqtt import PASSWORD, RawClient
from tests.support.http.http_api import api_on

pytestmark = pytest.mark.slow

DEVICE = "shed:1.battery"
TOPIC = topics.discovery("voltwire", DEVICE)
# Of https://www.home-assistant.io/integrations/sensor/#device-class, as far as we use them.
UNITS = {
    "apparent_power": {"VA"},
    "battery": {"%"},
    "current": {"A", "mA"},
    "distance": {"mm", "cm", "m", "km"},
    "duration": {"ms", "s", "min", "h", "d"},
    "energy": {"Wh", "kWh", "MWh"},
    "frequency": {"Hz", "kHz", "MHz"},
    "humidity": {"%"},
    "illuminance": {"lx"},
    "moisture": {"%"},
    "power": {"W", "kW", "MW"},
    "pressure": {"Pa", "hPa", "kPa", "bar", "mbar", "psi"},
    "signal_strength": {"dBm"},
    "speed": {"m/s", "km/h", "mph"},
    "temperature": {"°C", "°F"},
    "voltage": {"V", "mV"},
    "weight": {"g", "kg"},
}
# These allow no `measurement`.
TOTALS = {"energy": {"total", "total_increasing"}}
SHARED = {"device", "origin", "state_topic", "availability", "qos", "components"}
OF_A_SENSOR = {
    "platform", "name", "unique_id", "value_template", "state_class", "unit_of_measurement", "device_class",
}  # fmt: skip


def check(config: dict[str, Any]) -> None:
    """The rules of the MQTT integration for a message about a device."""
    assert set(config) == SHARED
    assert config["origin"]["name"]
    assert config["device"]["identifiers"]
    ids = [sensor["unique_id"] for sensor in config["components"].values()]
    assert len(ids) == len(set(ids))
    for sensor in config["components"].values():
        assert {"platform", "unique_id"} <= set(sensor) <= OF_A_SENSOR
        assert sensor["platform"] == "sensor"
        kind = sensor.get("device_class")
        assert kind is None or sensor["unit_of_measurement"] in UNITS[kind]
        assert sensor["state_class"] in TOTALS.get(kind, {"measurement"})


def rendered(template: str, payload: bytes) -> str:
    """As Home Assistant does: `value_json` is absent if the payload is no JSON."""
    try:
        variables = {"value_json": msgspec.json.decode(payload)}
    except msgspec.DecodeError:
        variables = {}
    return SandboxedEnvironment().from_string(template).render(variables)


@asynccontextmanager
async def relaying(dsn: str, port: int, **more: Any) -> AsyncIterator[None]:
    settings = Settings(
        database_url=SecretStr(dsn),
        mqtt_url=SecretStr(f"mqtt://:{PASSWORD}@127.0.0.1:{port}"),
        ha_discovery=True,
        **more,
    )
    running = asyncio.create_task(OutboxRelay(settings, Metrics()).run())
    yield
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "DISCOVERY_S", 0.1)


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(dsn) as client:
        yield client


@asynccontextmanager
async def watching(port: int) -> AsyncIterator[RawClient]:
    client = await RawClient.connect(port, "home assistant")
    await client.subscribe("homeassistant/#")
    yield client
    client.disconnect()


async def next_config(client: RawClient) -> dict[str, Any] | None:
    """None: the device is removed."""
    message = await client.message(timeout_s=60)
    assert message.topic == TOPIC
    if not message.payload:
        return None
    config: dict[str, Any] = msgspec.json.decode(message.payload)
    check(config)
    return config


def event(number: int, **metrics: float) -> dict[str, Any]:
    return {"event_id": f"e{number}", "device_id": DEVICE, "metrics": metrics}


@pytest.mark.usefixtures("_often")
async def test_a_device_is_announced_changed_removed_and_announced_again(
    doors: Doors, http: httpx.AsyncClient, dsn: str, db: Connection, port: int
) -> None:
    await doors.post({**event(1, soc_percent=50, temp_c=20), "timestamp": "2026-02-01T00:00:00Z"})
    await roll(db)
    await doors.post(event(2, voltage_v=385))
    await http.post("/v1/devices", json={"device_id": "registered-and-silent"})
    async with watching(port) as client, relaying(dsn, port, public_url="http://a.example"):
        config = await next_config(client)
        assert config is not None
        assert config["device"] == {
            "identifiers": ["voltwire:voltwire:shed_3a1_2ebattery"], "name": DEVICE, "model": "battery",
            "configuration_url": "http://a.example",
        }  # fmt: skip
        assert config["state_topic"] == f"devices/{DEVICE}/telemetry"
        sensors = {sensor["name"]: sensor for sensor in config["components"].values()}
        assert sensors.keys() == {"soc_percent", "temp_c", "voltage_v"}
        assert sensors["temp_c"]["unit_of_measurement"] == "°C"
        assert sensors["soc_percent"]["device_class"] == "battery"

        await http.put(f"/v1/devices/{DEVICE}", json={"name": "The shed"})
        changed = await next_config(client)
        assert changed is not None
        assert changed["device"]["name"] == "The shed"

        await http.delete(f"/v1/devices/{DEVICE}")
        assert await next_config(client) is None
        await doors.post(event(3, load=1))
        while await next_config(client) is None:
            """The removal may be published again before the device is back."""
    async with watching(port) as late:
        kept = await next_config(late)
        assert kept is not None
        assert len(kept["components"]) == 4, "what was announced last is retained"


async def test_templates_take_the_last_event_of_a_message_and_ignore_what_it_lacks(
    doors: Doors, dsn: str
) -> None:
    await doors.post(event(1, **{"cell.1:v": 3.2}))
    [config] = await announced(dsn)
    [sensor] = config["components"].values()
    value = sensor["value_template"]
    assert rendered(value, b'{"metrics":{"cell.1:v":3.25}}') == "3.25"
    assert rendered(value, b'[{"metrics":{"cell.1:v":3}},{"metrics":{"cell.1:v":4}}]') == "4"
    for without in (b'{"metrics":{"x":1}}', b"{}", b'[{"metrics":{"x":1}}]'):
        assert rendered(value, without) == ""
    [available] = config["availability"]
    assert available["topic"] == f"presence/{DEVICE}"
    states = ("online", "asleep", "late", "offline", "never_seen")
    shown = [rendered(available["value_template"], b'{"state":"%s"}' % s.encode()) for s in states]
    assert shown == ["online"] * 3 + ["offline"] * 2
    assert rendered(available["value_template"], b"") == "offline"


async def announced(dsn: str) -> list[dict[str, Any]]:
    settings = Settings(database_url=SecretStr(dsn))
    connection = await asyncpg.connect(dsn)
    changed, _ = await home_assistant.Discovery(settings).page(connection, "")
    connection.terminate()
    configs: list[dict[str, Any]] = [msgspec.json.decode(each) for each in changed.values()]
    for config in configs:
        check(config)
    return configs


async def test_no_two_sensors_have_the_same_id(doors: Doors, dsn: str) -> None:
    """Home Assistant would refuse the second."""
    names = [("a", "b_c"), ("a_b", "c"), ("a:b", "c"), ("a", "b:c"), ("a", "b.c"), ("a_3ab", "c")]
    for number, (device_id, metric) in enumerate(names):
        await doors.post({"event_id": f"e{number}", "device_id": device_id, "metrics": {metric: 1}})
    sensors = [each for config in await announced(dsn) for each in config["components"].values()]
    assert len({sensor["unique_id"] for sensor in sensors}) == len(sensors) == len(names)


async def test_every_unit_has_a_kind_that_home_assistant_accepts_and_metrics_are_limited(
    doors: Doors, http: httpx.AsyncClient, dsn: str
) -> None:
    names = {f"m{number}": unit for number, unit in enumerate((*KINDS, "furlong"))}
    names |= {f"{word}_{number}": "%" for number, word in enumerate((*PERCENTAGES, "other"))}
    metrics = {name: {"unit": unit} for name, unit in names.items()}
    put = await http.put("/v1/profiles/units", json={"metrics": metrics})
    assert put.is_success, put.text
    await http.put(f"/v1/devices/{DEVICE}", json={"profile": "units"})
    await doors.post(event(1, **dict.fromkeys(names, 1)))
    [config] = await announced(dsn)
    shown = {each["name"]: each["unit_of_measurement"] for each in config["components"].values()}
    assert shown.keys() == names.keys()
    assert {each.get("device_class") for each in config["components"].values()} == {*UNITS, None}
    await doors.post(event(2, **{f"z{number}": 1 for number in range(250)}))
    [config] = await announced(dsn)
    assert len(config["components"]) == METRICS_MAX
