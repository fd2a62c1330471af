"""Who may connect to an installation: everybody, or with CHAOS_AUTH=on whoever has a credential."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import asyncpg

from schema.access.audit import COMMAND
from schema.access.broker_logins import read_broker_tables
from schema.access.credentials import KEY_LOGIN_PREFIX, Scope, create
from schema.access.secrets import CredentialKind
from tests.support.brokers.guarded_mosquitto import INSTANCE, GuardedMosquitto
from tests.support.brokers.login import Login
from tests.support.brokers.mosquitto import Mosquitto
from tests.support.brokers.mqtt import PASSWORD
from tests.support.http.access import bearer

AUTH = {"": False, "off": False, "on": True}[os.environ.get("CHAOS_AUTH", "")]
# A key is one connection: each client has its own.
CHECKS, LOAD, PUBLISHER, SUBSCRIBER = "checks", "load", "publisher", "subscriber"
KEYS = {
    CHECKS: [Scope.ADMIN],
    LOAD: [Scope.INGEST],
    PUBLISHER: [Scope.INGEST],
    SUBSCRIBER: [Scope.READ],
}
Wanted = tuple[CredentialKind, str, Sequence[Scope]]


class Logins:
    """Authentication is off: clients have client ids, and no secrets."""

    settings: Mapping[str, str] = {}
    user_info = ""  # Of MQTT_URL, before the host.

    def prepare(self) -> None:
        """Before the roles start, and after the migration."""

    def key(self, name: str) -> Login:
        """That of one of KEYS at the broker."""
        return Login(f"{KEY_LOGIN_PREFIX}{name}")

    def devices(self, names: Sequence[str]) -> list[Login]:
        """Those of devices, which may be new. Database and broker must run."""
        return [Login(name) for name in names]

    def headers(self, key: str) -> Mapping[str, str]:
        """Those of requests with one of KEYS."""
        return {}


class GuardedLogins(Logins):
    """Authentication is on: credentials are in the tables, and in files that Mosquitto reads again."""

    settings: Mapping[str, str] = {"AUTH": "on"}
    user_info = f":{quote(PASSWORD)}@"

    def __init__(self, dsn: str, broker: Mosquitto) -> None:
        self._dsn, self._broker = dsn, GuardedMosquitto(broker)
        self._secrets: dict[tuple[CredentialKind, str], str] = {}

    def prepare(self) -> None:
        self._create([(CredentialKind.KEY, name, scopes) for name, scopes in KEYS.items()])
        self._broker.broker.restart()  # The listener changes, too.

    def key(self, name: str) -> Login:
        return Login(super().key(name).client_id, self._secrets[CredentialKind.KEY, name])

    def devices(self, names: Sequence[str]) -> list[Login]:
        new = [name for name in names if (CredentialKind.DEVICE, name) not in self._secrets]
        if new:
            self._create([(CredentialKind.DEVICE, name, []) for name in new])
            self._broker.broker.reload()
        return [Login(name, self._secrets[CredentialKind.DEVICE, name]) for name in names]

    def headers(self, key: str) -> Mapping[str, str]:
        return bearer(self._secrets[CredentialKind.KEY, key])

    def _create(self, wanted: Sequence[Wanted]) -> None:
        asyncio.run(self._create_and_write(wanted))

    async def _create_and_write(self, wanted: Sequence[Wanted]) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=10)
        try:
            async with connection.transaction():
                for kind, name, scopes in wanted:
                    secret = await create(connection, COMMAND, kind, name, scopes)
                    assert secret is not None, f"{name} has a credential already"
                    self._secrets[kind, name] = secret
            tables, _ = await read_broker_tables(connection, INSTANCE)
        finally:
            connection.terminate()
        self._broker.write(*tables.logins, members=tables.last_member)


def logins_of(dsn: str, broker: Mosquitto) -> Logins:
    return GuardedLogins(dsn, broker) if AUTH else Logins()
