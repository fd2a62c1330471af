"""Sessions of browsers: a cookie in place of a key, for twelve hours, which ends with the key."""

import secrets
from typing import NamedTuple

from schema.access.secrets import SECRET_BITS, digest
from schema.database import Connection
from schema.queries import load_queries

SESSION_S = 12 * 3600
SESSIONS_MAX = 100  # Per key.

queries = load_queries("schema.access", "access.sql")


class BrowserSession(NamedTuple):
    """A session that is valid for `left_s` more seconds, unless it or its key ends before."""

    digest: bytes
    credential_id: int
    left_s: float


async def begin_session(connection: Connection, credential_id: int) -> str | None:
    """The token of a new session; None if the key was revoked meanwhile."""
    token = secrets.token_urlsafe(SECRET_BITS // 8)
    begun = await connection.fetchval(
        queries.insert_session, digest(token.encode()), credential_id, SESSION_S, SESSIONS_MAX
    )
    return token if begun else None


async def end_session(connection: Connection, token_digest: bytes) -> None:
    await connection.execute(queries.delete_session, token_digest)
