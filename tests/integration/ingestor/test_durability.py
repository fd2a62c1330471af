"""A server that may lose acknowledged commits is reported."""

from typing import Any

from runtime.health import Health
from schema.database import Connection, report_durability


async def test_settings_that_break_the_promise_are_named(dsn: str, db: Connection) -> None:
    health = Health(())
    await db.execute("set synchronous_commit = off")
    await report_durability(db, health)
    ok, detail = health.checks["durability"]
    assert not ok
    assert "synchronous_commit=off" in detail


async def test_a_server_with_the_defaults_keeps_the_promise() -> None:
    class Server:
        async def fetchval(self, _: str) -> str:
            return ""

    server: Any = Server()
    health = Health(())
    await report_durability(server, health)
    assert health.checks["durability"] == (True, "commits are on disk")
