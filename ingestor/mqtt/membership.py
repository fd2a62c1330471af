"""Which sessions the broker may hold for us: written down before each is made, struck out after its end."""

import asyncio
from typing import Any

import structlog

from ingestor.mqtt.member import Member
from schema.database import DATABASE_ERRORS, WRITER_LIMITS, connect
from schema.presence import TIMES
from schema.queries import load_queries

RETRY_S = 1.0
ANSWER_S_MAX = 5.0

queries = load_queries("ingestor.mqtt", constants=TIMES)
log = structlog.get_logger()


class Membership:
    """A few questions at start, each on a connection of its own and asked until the database answers."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn, self._name = dsn, f"{name} roster"

    async def remember(self, member: Member) -> set[str]:
        """Write the member down; everything that its session may be subscribed to, now or from before."""
        (row,) = await self._ask(
            queries.register_member,
            member.client_id,
            member.instance,
            member.number,
            member.possible_subscriptions,
        )
        return set(row["filters"])

    async def former(self, present: Member) -> list[tuple[Member, set[str]]]:
        """The members beyond the present number of them, with their filters."""
        rows = await self._ask(queries.departed_members, present.instance, present.total)
        return [(Member(present.instance, row["number"]), set(row["filters"])) for row in rows]

    async def forget(self, member: Member) -> None:
        await self._ask(queries.remove_member, member.client_id)

    async def _ask(self, query: str, *arguments: Any) -> list[Any]:
        troubled = False
        while True:
            try:
                connection = await connect(
                    self._dsn, self._name, WRITER_LIMITS, command_timeout_s=ANSWER_S_MAX
                )
                try:
                    return list(await connection.fetch(query, *arguments))
                finally:
                    connection.terminate()
            except DATABASE_ERRORS as error:
                if not troubled:
                    log.warning("The list of our sessions cannot be read.", error=repr(error))
                troubled = True
            await asyncio.sleep(RETRY_S)
