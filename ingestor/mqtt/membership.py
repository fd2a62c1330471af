"""The sessions that the broker may hold for us, in table ingest_member: each row outlives its session."""

import asyncio
from typing import Any

import structlog

from ingestor.mqtt.member import Member
from schema.database import DATABASE_ERRORS, WRITER_SESSION, connect
from schema.presence import TIMES
from schema.queries import load_queries

RETRY_S = 1.0
ANSWER_S_MAX = 5.0

queries = load_queries("ingestor.mqtt", constants=TIMES)
log = structlog.get_logger()


class Membership:
    """A few queries at start, each on a connection of its own and retried until the database answers."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn, self._name = dsn, f"{name} membership"

    async def register(self, member: Member) -> set[str]:
        """Record the member. Returns every filter that its session may have, old ones included."""
        (row,) = await self._query(
            queries.register_member,
            member.client_id,
            member.instance,
            member.number,
            member.possible_subscriptions,
        )
        return set(row["filters"])

    async def departed(self, present: Member) -> list[tuple[Member, set[str]]]:
        """The members beyond the present total, with their filters."""
        rows = await self._query(queries.departed_members, present.instance, present.total)
        return [(Member(present.instance, row["number"]), set(row["filters"])) for row in rows]

    async def remove(self, member: Member) -> None:
        await self._query(queries.remove_member, member.client_id)

    async def _query(self, query: str, *arguments: Any) -> list[Any]:
        logged = False
        while True:
            try:
                connection = await connect(
                    self._dsn, self._name, WRITER_SESSION, command_timeout_s=ANSWER_S_MAX
                )
                try:
                    return list(await connection.fetch(query, *arguments))
                finally:
                    connection.terminate()
            except DATABASE_ERRORS as error:
                if not logged:
                    log.warning(
                        "The table ingest_member cannot be used; retrying.", error=repr(error)
                    )
                logged = True
            await asyncio.sleep(RETRY_S)
