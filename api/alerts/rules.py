"""Alert rules. Each change is in force, in every process, for every event received after it returned."""

from datetime import datetime
from typing import Any

import asyncpg

from api.store.change import change, end_incidents, increment_rules_version, note
from api.store.database import Database
from runtime.errors import NotFound
from schema.database import fetch_row
from schema.locks import take_lanes
from schema.queries import load_queries
from schema.rule import RuleBody, resolve_limit

# These members decide whether and when a rule fires: if one changes, evaluation restarts. So does another
# limit at which incidents resolve.
_DECISIVE = (
    "condition", "device_id", "tag", "metric", "op", "threshold", "for_s", "max_gap_s", "enabled",
)  # fmt: skip

queries = load_queries("api.alerts", "rules.sql")


class RuleStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, rule: RuleBody) -> Any:
        async with change(self._database) as (connection, _):
            row = await fetch_row(connection, queries.add_rule, *_columns(rule))
            await increment_rules_version(connection)
            await note(connection, "rule.create", row["rule_id"], _written(rule))
            return row

    async def replace(self, rule_id: str, rule: RuleBody) -> Any:
        """A rule that decides otherwise ends its open incidents. Raises NotFound."""
        async with change(self._database) as (connection, notifications):
            await take_lanes(connection)
            old = _found(await connection.fetchrow(queries.lock_rule, rule_id), rule_id)
            await note(connection, "rule.update", rule_id, _written(rule))
            if all(old[name] == value for name, value in rule):
                return old
            restart = _decides_otherwise(old, rule)
            if restart:
                notifications.extend(await end_incidents(connection, rule_id=rule_id))
            row = await connection.fetchrow(queries.replace_rule, *_columns(rule), rule_id, restart)
            await connection.execute(queries.check_owed, rule_id)
            await increment_rules_version(connection)
            return row

    async def delete(self, rule_id: str) -> None:
        """End the rule's open incidents, too. Raises NotFound."""
        async with change(self._database) as (connection, notifications):
            await take_lanes(connection)
            _found(await connection.fetchrow(queries.lock_rule, rule_id), rule_id)
            notifications.extend(await end_incidents(connection, rule_id=rule_id))
            await connection.execute(queries.delete_rule, rule_id)
            await note(connection, "rule.delete", rule_id)
            await increment_rules_version(connection)

    async def page(self, after: tuple[datetime, str], limit: int) -> list[asyncpg.Record]:
        """Return rules, the oldest first, and one more than `limit` if there is another page."""
        return await self._database.fetch(queries.list_rules, *after, limit + 1)

    async def one(self, rule_id: str) -> Any:
        """Raises NotFound."""
        return _found(await self._database.fetch_row(queries.one_rule, rule_id), rule_id)


def _found(row: Any, rule_id: str) -> Any:
    if row is None:
        raise NotFound(f"There is no rule {rule_id!r}.")
    return row


def _decides_otherwise(old: Any, rule: RuleBody) -> bool:
    return resolve_limit(old["clear_threshold"], old["threshold"]) != resolve_limit(
        rule.clear_threshold, rule.threshold
    ) or any(old[name] != getattr(rule, name) for name in _DECISIVE)


def _written(rule: RuleBody) -> dict[str, Any]:
    return rule.model_dump(mode="json", exclude_defaults=True)


def _columns(rule: RuleBody) -> tuple[Any, ...]:
    return (
        rule.device_id, rule.tag, rule.metric, rule.op, rule.threshold, rule.name, rule.severity,
        rule.for_s, rule.clear_threshold, rule.cooldown_s, rule.notify, rule.enabled,
        rule.condition, rule.max_gap_s, rule.channels,
    )  # fmt: skip
