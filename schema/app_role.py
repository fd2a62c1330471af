"""The database user of the roles: it reads and writes all tables, owns none, and cannot change any."""

from runtime.errors import StartError
from schema.database import Connection
from schema.queries import load_queries

queries = load_queries("schema", "app_role.sql")


async def grant_app_role(connection: Connection, role: str) -> None:
    """Grant `role` all that ingest, api and schedule need, as the owner of the tables.

    It is safe to repeat. Raises StartError, and grants nothing, if the role is not one that owns nothing and
    can change no table.
    """
    async with connection.transaction():
        await _require_suitable(connection, role)
        for row in await connection.fetch(queries.grants, role):
            await connection.execute(row["statement"])
        faults = await connection.fetch(queries.faults, role)
        if faults:
            listed = "; ".join(f"{row['fault']} (run: {row['remedy']})" for row in faults)
            raise StartError(
                f"The role {role} was not granted anything: {listed}. Let the owner of the database run"
                " this, then run voltwire migrate --app-role again."
            )


async def _require_suitable(connection: Connection, role: str) -> None:
    found = await connection.fetchrow(queries.app_role, role)
    if found is None:
        raise StartError(
            f"The database has no role {role}: create it with a login and a password, then run"
            " voltwire migrate --app-role again."
        )
    if found["is_superuser"]:
        raise StartError(
            f"The role {role} is a superuser, so nothing can be withheld from it: name another role."
        )
    if found["is_owner"]:
        raise StartError(
            f"The role {role} is the owner of the tables or a member of it ({found['owner']}): name a"
            " role that owns nothing."
        )
