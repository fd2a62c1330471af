"""The queries of the Grafana dashboard, run as its login and with its macros and variables replaced.

Grafana's PostgreSQL plugin turns a time range into text between quotes and a group into whole intervals of
seconds; `sqlstring` quotes the chosen values of a variable and doubles the quotes inside them.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import yaml

from scheduler.rollups import roll
from schema.database import Connection
from tests.support.database.app_role import as_user, database_user, run_reader_file
from tests.support.processes.services import ROOT

FOLDER = ROOT / "deploy/grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboards/voltwire.json").read_text("utf-8"))
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
VARIABLES = {each["name"]: each["query"] for each in DASHBOARD["templating"]["list"]}
MACRO = re.compile(r"\$__(\w+)\(([^)]*)\)")
CHOSEN = re.compile(r"\$\{(\w+):sqlstring\}")
START = datetime(2026, 2, 1, 8, tzinfo=UTC)
END = START + timedelta(hours=2)
INTERVAL, INTERVAL_S = "10m", 600
DEVICES = ["truck'1", "truck2"]
FILL = """
insert into device (device_id) values ('truck''1'), ('truck2'), ('other');
insert into presence (device_no, state) select device_no, 'online' from device;
insert into event
select device_no, timestamptz '2026-02-01 08:00Z' + n * interval '5 minutes', 'e' || n,
       jsonb_build_object('speed', n + 100 * device_no, 'load', 1), '{}', n,
       timestamptz '2026-02-01 08:00Z' + n * interval '5 minutes' + interval '7 seconds'
from device, generate_series(0, 23) n;
insert into incident (device_no, rule_id, severity, opened_at, opened_value, metric)
select device_no, 'r1', 'warning', timestamptz '2026-02-01 09:00Z', 5, 'speed' from device;
"""


def as_grafana_asks(sql: str, chosen: dict[str, list[str]]) -> str:
    def quoted(name: re.Match[str]) -> str:
        return ",".join("'" + value.replace("'", "''") + "'" for value in chosen[name[1]])

    def expanded(macro: re.Match[str]) -> str:
        column, *rest = (argument.strip() for argument in macro[2].split(","))
        group = f"floor(extract(epoch from {column})/{INTERVAL_S})*{INTERVAL_S}"
        match macro[1], rest:
            case "timeFilter", []:
                return f"{column} BETWEEN '{START:%FT%TZ}' AND '{END:%FT%TZ}'"
            case "timeGroupAlias", [interval] if interval == INTERVAL:
                return f'{group} AS "time"'
        raise AssertionError(macro[0])

    asked = MACRO.sub(expanded, CHOSEN.sub(quoted, sql).replace("$__interval", INTERVAL))
    assert "$" not in asked
    return asked


@pytest.fixture(scope="module")
def role(postgres: str) -> Iterator[str]:
    with database_user(postgres) as name:
        yield name


@pytest.fixture
async def reader(dsn: str, db: Connection, role: str) -> AsyncIterator[Connection]:
    await db.execute(FILL)
    await db.execute("update rollup_state set closing = $1, closed = $1", START)
    await roll(db)
    assert run_reader_file(dsn, role, GRAFANA_PASSWORD="x").returncode == 0
    connection = await asyncpg.connect(as_user(dsn, role))
    yield connection
    connection.terminate()


async def test_every_query_of_the_dashboard_answers_with_what_its_panel_needs(
    reader: Connection,
) -> None:
    async def rows(sql: str) -> list[dict[str, Any]]:
        chosen = {"device": DEVICES, "metric": ["speed"]}
        return [dict(row) for row in await reader.fetch(as_grafana_asks(sql, chosen))]

    assert [row["device_id"] for row in await rows(VARIABLES["device"])] == ["other", *DEVICES]
    assert [row["metric"] for row in await rows(VARIABLES["metric"])] == ["load", "speed"]
    found = {
        title: await rows(target["rawSql"])
        for title, panel in PANELS.items()
        for target in panel["targets"]
    }
    assert found["Devices by state"] == [{"metric": "online", "value": 3}]
    assert found["Open incidents"] == [{"value": 3}]
    first = {"time": START.timestamp(), "metric": "truck'1", "value": 100.5}
    assert len(found["$metric"]) == 2 * 12
    assert first in found["$metric"]
    by_hour = found["$metric by hour: minimum, mean, maximum"]
    assert len(by_hour) == 2 * 2
    hour = {"time": START, "metric": "truck'1", "min": 100.0, "avg": 105.5, "max": 111.0}
    assert hour in by_hour
    assert {row["p95"] for row in found["Delay of events"]} == {7.0}
    assert {row["device_id"] for row in found["Incidents"]} == set(DEVICES)
    assert {row["device_id"] for row in found["Devices"]} == set(DEVICES)
    for annotation in DASHBOARD["annotations"]["list"]:
        marked = await rows(annotation["target"]["rawSql"])
        assert {row["text"] for row in marked} == {f"{name}: r1" for name in DEVICES}
        assert set(marked[0]) == {"time", "timeend", "text", "tags"}


def test_every_panel_and_variable_uses_the_data_source_that_is_provisioned() -> None:
    text = (FOLDER / "provisioning/datasources/voltwire.yml").read_text("utf-8")
    [source] = yaml.safe_load(text)["datasources"]
    used = {"type": source["type"], "uid": source["uid"]}
    parts = [
        *DASHBOARD["panels"],
        *DASHBOARD["templating"]["list"],
        *DASHBOARD["annotations"]["list"],
    ]
    parts += [target for panel in DASHBOARD["panels"] for target in panel["targets"]]
    assert all(part["datasource"] == used for part in parts)
    assert source["user"] in (FOLDER / "reader.sql").read_text("utf-8")


def test_panels_have_a_number_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS.values()}) == len(DASHBOARD["panels"])
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS.values())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
