"""The credentials that a restore brings back: somebody revoked them after the backup was made.

They are valid again once the roles run, so the command names them, and how to revoke them.
"""

from collections.abc import Collection

from cli.backup.backup import queries
from schema.access.credentials import Credential
from schema.access.secrets import CredentialKind
from schema.access.watch import valid_credentials
from schema.database import Connection

NAMED_MAX = 20


async def credentials_in(connection: Connection) -> frozenset[Credential]:
    """The credentials that are valid; none before the tables exist."""
    if not await connection.fetchval(queries.table_exists, "credential"):
        return frozenset()
    return frozenset(await valid_credentials(connection))


def brought_back(before: Collection[Credential], restored: Collection[Credential]) -> str | None:
    """The sentence for the operator; None if the restore brings nothing back."""
    known = {_identity(each) for each in before}
    names = sorted({each.actor for each in restored if _identity(each) not in known})
    if not names:
        return None
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return (
        f"These credentials are valid again, or for the first time: {', '.join(names[:NAMED_MAX])}{more}."
        " If one of them was revoked since the backup, revoke it again with voltwire key revoke or voltwire"
        " device revoke before you start the roles."
    )


def _identity(credential: Credential) -> tuple[CredentialKind, str, bytes | None]:
    """A rotated secret is another one under the same name."""
    return credential.kind, credential.name, credential.digest
