"""Names, tags and rules of the demo, written as the API writes them; which devices have no events yet."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from api.alerts.rules import RuleStore
from api.auth.caller import Caller, set_caller
from api.store.database import Database
from api.store.events import EventStore
from api.store.registry import RegistryStore
from cli.demo.fleet import REGISTRATIONS, RULES
from runtime.errors import Conflict, NotFound
from runtime.settings import Settings
from schema.access.audit import COMMAND, Actor
from schema.database import API_SESSION, open_pool
from schema.instants import EARLIEST

RULES_READ_MAX = 1000


class CommandCaller(Caller):
    """The audit shows that a command acted."""

    @property
    def actor(self) -> Actor:
        return COMMAND


@asynccontextmanager
async def demo_registry(settings: Settings) -> AsyncIterator["DemoRegistry"]:
    name = f"{settings.instance} demo"
    async with await open_pool(settings.dsn, name, API_SESSION, size_max=1) as pool:
        yield DemoRegistry(Database(pool), settings.default_profile)


class DemoRegistry:
    """What is there already stays as it is: people change their demo, and start it again."""

    def __init__(self, database: Database, default_profile: str) -> None:
        set_caller(CommandCaller())
        self._registry = RegistryStore(database, default_profile)
        self._events, self._rules = EventStore(database), RuleStore(database)

    async def register(self) -> None:
        for body in REGISTRATIONS:
            with suppress(Conflict):
                await self._registry.add_device(body)
        known = {row["name"] for row in await self._rules.page((EARLIEST, ""), RULES_READ_MAX)}
        for rule in RULES:
            if rule.name not in known:
                await self._rules.add(rule)

    async def has_events(self, device_id: str) -> bool:
        try:
            found = await self._events.events(device_id, None, None, after=None, limit=1)
        except NotFound:
            return False
        return bool(found)
