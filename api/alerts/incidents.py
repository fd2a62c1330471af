"""Incidents as the API lists and acknowledges them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg
import msgspec
from pydantic import BaseModel, ConfigDict, Field

from api.store.change import change, note
from api.store.database import Database
from runtime.errors import Conflict, NotFound
from schema.alert import AlertState, Severity, alert
from schema.locks import lane, take_lanes
from schema.queries import load_queries
from schema.registry import DisplayName

INCIDENT_ID_MAX = 2**63 - 1

queries = load_queries("api.alerts", "incidents.sql")


class IncidentFilter(StrEnum):
    """The states of an incident, and `open`: firing or acknowledged."""

    OPEN = "open"
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Acknowledgement(BaseModel):
    """Who has seen an incident, and what they say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: DisplayName | None = None
    note: str | None = Field(None, min_length=1, max_length=2000, pattern=r"^[^\x00]+$")


@dataclass(frozen=True, slots=True)
class IncidentSelection:
    """Which incidents; None restricts nothing. `start` and `end` are about the time of opening."""

    state: IncidentFilter | None = None
    device_id: str | None = None
    rule_id: str | None = None
    severity: Severity | None = None
    start: datetime | None = None
    end: datetime | None = None


class IncidentStore:
    """Bodies are JSON text."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, before: int, selection: IncidentSelection, limit: int
    ) -> list[asyncpg.Record]:
        """Return incidents below a number, the newest first, and one more than `limit` if there are more."""
        return await self._database.fetch(
            queries.list_incidents, before, selection.state, selection.device_id, selection.rule_id,
            selection.severity, selection.start, selection.end, limit + 1, None,
        )  # fmt: skip

    async def one(self, incident_id: int) -> bytes:
        """The incident with its history. Raises NotFound."""
        nothing = (None,) * 6
        _require_number(incident_id)
        row = await self._database.fetch_row(
            queries.list_incidents, INCIDENT_ID_MAX, *nothing, 1, incident_id
        )
        if row is None:
            raise _no_incident(incident_id)
        body: dict[str, Any] = msgspec.json.decode(row["body"], type=dict[str, msgspec.Raw])
        history = await self._database.fetch_value(queries.incident_history, incident_id)
        return msgspec.json.encode(body | {"history": msgspec.Raw(history.encode())})

    async def acknowledge(self, incident_id: int, what: Acknowledgement) -> bytes:
        """The incident after it. A second acknowledgement changes nothing. Raises NotFound, Conflict."""
        _require_number(incident_id)
        async with change(self._database) as (connection, notifications):
            device_no = await connection.fetchval(queries.device_of_incident, incident_id)
            if device_no is None:
                raise _no_incident(incident_id)
            await take_lanes(connection, [lane(device_no)])
            row = await connection.fetchrow(queries.acknowledge, incident_id, what.by, what.note)
            if row is not None:
                notifications.append(_acknowledged(row, what))
                details = {"by": what.by, "note": what.note}
                await note(connection, "incident.acknowledge", str(incident_id), details)
            elif not await connection.fetchval(queries.is_acknowledged, incident_id):
                raise Conflict(
                    f"The incident {incident_id} is resolved: only an open one can be acknowledged."
                )
        return await self.one(incident_id)


def _acknowledged(row: Any, what: Acknowledgement) -> Any:
    return alert(
        device_id=row["device_id"],
        metrics={},
        time=row["acknowledged_at"],
        incident_id=row["incident_id"],
        rule_id=row["rule_id"],
        rule_name=row["rule_name"],
        severity=row["severity"],
        state=AlertState.ACKNOWLEDGED,
        metric=row["metric"],
        op=row["op"],
        threshold=row["threshold"],
        muted=row["muted"],
        by=what.by,
        note=what.note,
    )


def _require_number(incident_id: int) -> None:
    if not 1 <= incident_id <= INCIDENT_ID_MAX:
        raise _no_incident(incident_id)


def _no_incident(incident_id: int) -> NotFound:
    return NotFound(f"There is no incident {incident_id}.")
