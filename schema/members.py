"""Which members of an instance receive nothing, for the health of every role.

What a broker holds for a member waits until it is back; nobody else receives it. Another member, or the API,
does its own job meanwhile, so the check `members` is never required.
"""

from collections.abc import Callable
from logging import INFO, WARNING
from time import monotonic

import asyncpg
import structlog

from runtime.health import Health
from schema.database import Connection
from schema.presence import CANARY_STALE_S, TIMES
from schema.queries import load_queries

CHECK = "members"

log = structlog.get_logger()
queries = load_queries("schema", "members.sql", TIMES)


class MemberWatch:
    """Reports the check `members` once a member was silent for 10 s, and from then on.

    A member that is silent when we see it first has these seconds to come back: it may start with us.
    """

    def __init__(
        self, instance: str, health: Health, clock: Callable[[], float] = monotonic
    ) -> None:
        self._instance, self._health, self._clock = instance, health, clock
        self._seen_since: dict[int, float] = {}

    async def look(self, connection: Connection) -> None:
        """A role may look before the tables exist."""
        try:
            rows = await connection.fetch(queries.members, self._instance)
        except asyncpg.SyntaxOrAccessError:
            return
        now = self._clock()
        self._seen_since = {row["number"]: self._seen_since.get(row["number"], now) for row in rows}
        silent = [row["number"] for row in rows if row["silent"]]
        silent = [n for n in silent if now - self._seen_since[n] >= CANARY_STALE_S]
        if silent or CHECK in self._health.checks:
            self._report(silent)

    def _report(self, silent: list[int]) -> None:
        detail = "every member receives"
        if silent:
            detail = "; ".join(f"member {n}: its messages wait in the broker" for n in silent)
        if self._health.report(CHECK, ok=not silent, detail=detail):
            log.log(WARNING if silent else INFO, "The check of the members changed.", detail=detail)
