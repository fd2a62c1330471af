"""Alert rules. Each change is in force, in every process, for every event received after it returned."""

from datetime import datetime
from typing import Any

from api.store.change import change, end_incidents, queries
from api.store.database import Database
from runtime.errors import NotFound
from schema.alert import RuleBody
from schema.locks import take_lanes

# What decides whether and when a rule fires: where it changes, the rule begins anew.
_DECISIVE = (
    "device_id", "tag", "metric", "op", "threshold", "for_s", "clear_threshold", "enabled",
)  # fmt: skip


class RuleStore:
    def __init__(self, reader: Database) -> None:
        self._reader = reader

    async def add(self, rule: RuleBody) -> Any:
        async with change(self._reader) as (connection, _):
            row = await connection.fetchrow(queries.add_rule, *_columns(rule))
            await connection.execute(queries.rules_changed)
            return row

    async def replace(self, rule_id: str, rule: RuleBody) -> Any:
        """Where it decides otherwise than before, its open incidents end. Raises NotFound."""
        async with change(self._reader) as (connection, told):
            await take_lanes(connection)
            old = _found(await connection.fetchrow(queries.one_rule, rule_id), rule_id)
            anew = any(old[name] != getattr(rule, name) for name in _DECISIVE)
            if anew:
                told.extend(await end_incidents(connection, rule_id=rule_id))
            row = await connection.fetchrow(queries.replace_rule, *_columns(rule), rule_id, anew)
            await connection.execute(queries.rules_changed)
            return row

    async def delete(self, rule_id: str) -> None:
        """Its open incidents end. Raises NotFound."""
        async with change(self._reader) as (connection, told):
            await take_lanes(connection)
            _found(await connection.fetchrow(queries.one_rule, rule_id), rule_id)
            told.extend(await end_incidents(connection, rule_id=rule_id))
            await connection.execute(queries.delete_rule, rule_id)
            await connection.execute(queries.rules_changed)

    async def page(self, after: tuple[datetime, str], limit: int) -> list[Any]:
        """Oldest first; one row more than `limit` if there is another page."""
        return list(await self._reader.ask("fetch", queries.list_rules, *after, limit + 1))

    async def one(self, rule_id: str) -> Any:
        """Raises NotFound."""
        return _found(await self._reader.ask("fetchrow", queries.one_rule, rule_id), rule_id)


def _found(row: Any, rule_id: str) -> Any:
    if row is None:
        raise NotFound(f"There is no rule {rule_id!r}.")
    return row


def _columns(rule: RuleBody) -> tuple[Any, ...]:
    return (
        rule.device_id, rule.tag, rule.metric, rule.op, rule.threshold, rule.name, rule.severity,
        rule.for_s, rule.clear_threshold, rule.cooldown_s, rule.notify, rule.enabled,
    )  # fmt: skip
