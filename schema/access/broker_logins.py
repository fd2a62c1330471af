"""The logins that a broker with files of its own must know: devices, keys, certificates, our own sessions."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import asyncpg

from schema.access.credentials import Scope
from schema.access.secrets import BrokerHash, CredentialKind
from schema.access.watch import follow, valid_for_s
from schema.database import Connection
from schema.queries import load_queries

queries = load_queries("schema.access", "access.sql")


@dataclass(frozen=True, slots=True)
class BrokerLogin:
    """A device, key or certificate in force. A certificate has no hash."""

    kind: CredentialKind
    name: str
    scopes: frozenset[Scope] = frozenset()
    hash: BrokerHash | None = None


@dataclass(frozen=True, slots=True)
class BrokerTables:
    """Sorted by kind and name; `last_member` is the highest number of an ingestor that is known."""

    logins: Sequence[BrokerLogin]
    last_member: int


async def read_broker_tables(connection: Connection, instance: str) -> tuple[BrokerTables, float]:
    """What is in force, and for how many seconds unless something changes."""
    rows = await connection.fetch(queries.broker_logins)
    last_member = await connection.fetchval(queries.last_member, instance)
    return BrokerTables([_login(row) for row in rows], last_member), valid_for_s(rows)


def follow_broker_tables(dsn: str, name: str, instance: str) -> AsyncGenerator[BrokerTables, None]:
    """Yield what is in force now and after each change, without end."""
    return follow(dsn, name, lambda connection: read_broker_tables(connection, instance))


def _login(row: asyncpg.Record) -> BrokerLogin:
    hashed = row["broker_hash"]
    return BrokerLogin(
        CredentialKind(row["kind"]),
        row["name"],
        frozenset(map(Scope, row["scopes"])),
        None if hashed is None else BrokerHash(row["broker_salt"], hashed),
    )
