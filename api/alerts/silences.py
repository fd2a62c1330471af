"""Silences. Each change is in force, in every process, for everything received after it returned."""

from typing import Annotated, Self

import asyncpg
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.http.bodies import Instant
from api.store.change import change, increment_rules_version, note
from api.store.database import Database
from runtime.errors import InvalidRequest, NotFound
from schema.database import fetch_row
from schema.event import DeviceId, Tag
from schema.queries import load_queries

SILENCE_ID_MAX = 2**63 - 1

queries = load_queries("api.alerts", "silences.sql")


class SilenceBody(BaseModel):
    """A silence as a caller writes it: it concerns what meets all conditions that are given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device_id: DeviceId | None = None
    tag: Tag | None = Field(None, description="A tag of the device or of the event")
    rule_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,64}$")] | None = Field(
        None, description="A rule, or the built-in rule silent"
    )
    from_time: Instant | None = Field(None, description="Absent: from now on")
    to_time: Instant
    reason: str | None = Field(None, min_length=1, max_length=2000, pattern=r"^[^\x00]+$")

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.device_id is None and self.tag is None and self.rule_id is None:
            raise ValueError("device_id, tag or rule_id is required")
        if self.from_time is not None and self.from_time >= self.to_time:
            raise ValueError("from_time must be before to_time")
        return self


class SilenceStore:
    """Bodies are JSON text."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, body: SilenceBody) -> str:
        """Raises InvalidRequest if it would have ended already."""
        async with change(self._database) as (connection, _):
            silence_id = await connection.fetchval(
                queries.add_silence, body.device_id, body.tag, body.rule_id, body.from_time,
                body.to_time, body.reason,
            )  # fmt: skip
            if silence_id is None:
                raise InvalidRequest("to_time: it must lie in the future.")
            await increment_rules_version(connection)
            written = body.model_dump(mode="json", exclude_defaults=True)
            await note(connection, "silence.create", str(silence_id), written)
            row = await fetch_row(connection, queries.list_silences, SILENCE_ID_MAX, 1, silence_id)
        return str(row["body"])

    async def page(self, before: int, limit: int) -> list[asyncpg.Record]:
        """Return silences below a number, the newest first, and one more than `limit` if there are more."""
        return await self._database.fetch(queries.list_silences, before, limit + 1, None)

    async def get(self, silence_id: int) -> str:
        """Raises NotFound."""
        if not 1 <= silence_id <= SILENCE_ID_MAX:
            raise _unknown(silence_id)
        rows = await self._database.fetch(queries.list_silences, SILENCE_ID_MAX, 1, silence_id)
        if not rows:
            raise _unknown(silence_id)
        return str(rows[0]["body"])

    async def delete(self, silence_id: int) -> None:
        """It ends now. Raises NotFound."""
        async with change(self._database) as (connection, _):
            known = 1 <= silence_id <= SILENCE_ID_MAX
            if not known or await connection.fetchval(queries.delete_silence, silence_id) is None:
                raise _unknown(silence_id)
            await note(connection, "silence.delete", str(silence_id))
            await increment_rules_version(connection)


def _unknown(silence_id: int) -> NotFound:
    return NotFound(f"There is no silence {silence_id}.")
