"""Query plans of PostgreSQL on generated data of several months."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from schema.database import Connection

DEVICES, EVENTS_OF_A_DEVICE, DAYS = 20, 1500, 90

# Each device sends every 86 minutes for 90 days. `fleet` is a tag of all events, the others are rare.
GENERATE = f"""
insert into device (device_id) select 'd' || n from generate_series(1, {DEVICES}) n;
insert into presence (device_no, state) select device_no, 'online' from device;
insert into event
select device_no, clock_timestamp() - n * interval '{DAYS} days' / {EVENTS_OF_A_DEVICE}, 'e' || n,
       jsonb_build_object('temp', n % 40, 'soc_percent', n % 100),
       array['fleet', 'room:' || (n * 7 + device_no) % 400], null, clock_timestamp()
from device, generate_series(1, {EVENTS_OF_A_DEVICE}) n;
insert into rejected (received_at, door, device_id, reason, detail, payload)
select clock_timestamp() - n * interval '1 minute', 'http', 'd' || n % 500, 'reason ' || n % 500, '', ''
from generate_series(1, 20000) n;
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """The nodes of a plan as in the JSON of EXPLAIN, the top one first."""

    nodes: list[dict[str, Any]]

    @property
    def partitions(self) -> set[str]:
        """The partitions of `event` that are read; partitions pruned at the start do not count."""
        names = {node.get("Relation Name", "") for node in self.nodes}
        return {name for name in names if name.startswith("event_2")}

    @property
    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes if "Index Name" in node}

    @property
    def read_whole(self) -> set[str]:
        """The tables and partitions with rows that are read sequentially."""
        return {
            node["Relation Name"]
            for node in self.nodes
            if node["Node Type"] == "Seq Scan" and node["Actual Loops"] and _rows_read(node)
        }

    @property
    def rows_most(self) -> int:
        """The largest number of rows that any node handled."""
        return max(_rows_read(node) for node in self.nodes)


async def generate(connection: Connection) -> None:
    await connection.execute(GENERATE)
    await connection.execute("vacuum analyze")


async def plan_of(connection: Connection, query: str, *arguments: Any) -> Plan:
    """Run the query like the connections of the API, with a plan for its values."""
    await connection.execute("set plan_cache_mode = force_custom_plan")
    text = await connection.fetchval(
        f"explain (analyze, timing off, format json) {query}", *arguments
    )
    return Plan(list(_nodes(msgspec.json.decode(text)[0]["Plan"])))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _rows_read(node: dict[str, Any]) -> int:
    removed = sum(value for name, value in node.items() if name.startswith("Rows Removed by"))
    rows: float = (node["Actual Rows"] + removed) * node["Actual Loops"]
    return round(rows)
