"""The audit: who did what to what, written in the transaction of the change itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from schema.database import Connection
from schema.event import json_form
from schema.queries import load_queries

KEPT_DAYS = 400

queries = load_queries("schema.access", "access.sql")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. `address` is that of the network, None for commands."""

    name: str
    address: str | None = None


COMMAND = Actor("command")


async def record(
    connection: Connection,
    actor: Actor,
    action: str,
    target: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write a row. `action` is `subject.verb`, such as `rule.update`; `details` never hold a secret."""
    text = msgspec.json.encode(_shown(details or {})).decode()
    await connection.execute(queries.insert_audit, actor.name, actor.address, action, target, text)


def _shown(value: Any) -> Any:
    """The value with its numbers in the form that every response has."""
    match value:
        case float():
            return json_form(value)
        case Mapping():
            return {name: _shown(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_shown(inner) for inner in value]
        case _:
            return value


async def delete_old_audit(connection: Connection) -> None:
    """Delete rows after a year and a month. A login that may not, as the app role, leaves them."""
    if await connection.fetchval(queries.may_delete_audit):
        await connection.execute(queries.delete_old_audit, KEPT_DAYS)
