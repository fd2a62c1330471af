"""A real Mosquitto with authentication on: its files are made as voltwire broker-files makes them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from broker.mosquitto.files import BrokerFiles, ChangedFiles
from broker.mosquitto.listeners import Certificates
from schema.access.broker_logins import BrokerLogin, BrokerTables
from schema.access.credentials import Scope
from schema.access.secrets import CredentialKind, broker_hash
from tests.support.brokers.mosquitto import Mosquitto, mosquitto_group
from tests.support.brokers.mqtt import CONNACK, PASSWORD, Peer, RawClient, connect_packet
from tests.support.processes.services import temporary_folder

INSTANCE = "voltwire"


def secret_of(name: str) -> str:
    return f"the secret of {name}"


def device(device_id: str) -> BrokerLogin:
    return BrokerLogin(CredentialKind.DEVICE, device_id, hash=broker_hash(secret_of(device_id)))


def key(name: str, *scopes: str) -> BrokerLogin:
    hashed = broker_hash(secret_of(f"_key.{name}"))
    return BrokerLogin(CredentialKind.KEY, name, frozenset(map(Scope, scopes)), hashed)


def certificate(device_id: str) -> BrokerLogin:
    return BrokerLogin(CredentialKind.CERTIFICATE, device_id)


class GuardedMosquitto:
    """`broker` with the logins that `write` gave it last."""

    def __init__(
        self,
        broker: Mosquitto,
        certificates: Certificates | None = None,
        *,
        ha_discovery: bool = False,
    ) -> None:
        self.broker, self.port = broker, broker.port
        listeners = broker.listeners.with_certificates(certificates)
        self._files = BrokerFiles(broker.files, listeners, mosquitto_group(), ha_discovery)
        self._clients: list[RawClient] = []
        if certificates is not None:
            broker.more_ports = (listeners.tls.port, listeners.certificate.port)

    def write(self, *logins: BrokerLogin, members: int = 1) -> ChangedFiles:
        return self._files.write_closed(INSTANCE, PASSWORD, BrokerTables(logins, members))

    def reload(self, *logins: BrokerLogin) -> None:
        self.write(*logins)
        self.broker.reload()

    async def connect(self, login: str, **options: object) -> RawClient:
        """A client with the secret of this login."""
        values: dict[str, Any] = {"password": secret_of(login.replace("%3A", ":")), **options}
        client = await RawClient.connect(self.port, login, **values)
        self._clients.append(client)
        return client

    async def connect_over_tls(
        self, tls: ssl.SSLContext, client_id: str, **options: Any
    ) -> RawClient:
        """With a password, or with the certificate that the context holds."""
        listeners = self.broker.listeners
        listener = listeners.tls if "password" in options else listeners.certificate
        client = await RawClient.connect(listener.port, client_id, tls=tls, **options)
        self._clients.append(client)
        return client

    async def ours(self, *filters: str, client_id: str = f"{INSTANCE}-ingest") -> RawClient:
        """A session of our own with these subscriptions."""
        client = await self.connect(client_id, password=PASSWORD)
        for each in filters:
            assert await client.subscribe(each) == 1
        return client

    async def code(self, client_id: str, **options: Any) -> int | None:
        """The return code of CONNACK."""
        return await connack(self.port, connect_packet(client_id, **options))

    def drop_all(self) -> None:
        for client in self._clients:
            client.drop()


async def connack(port: int, sent: bytes) -> int | None:
    """The return code; None if the connection ends without one, as it does while the broker stops."""
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    try:
        peer.send(sent)
        received = await peer.packet()
    finally:
        peer.drop()
    if received is None:
        return None
    assert received[0] >> 4 == CONNACK
    return received[1][1]


@asynccontextmanager
async def guarded_mosquitto(
    logins: Sequence[BrokerLogin],
    certificates: Certificates | None = None,
    *,
    ha_discovery: bool = False,
) -> AsyncIterator[GuardedMosquitto]:
    with temporary_folder() as folder:
        broker = Mosquitto(folder)
        guarded = GuardedMosquitto(broker, certificates, ha_discovery=ha_discovery)
        guarded.write(*logins)
        broker.start()
        try:
            yield guarded
        finally:
            guarded.drop_all()
            broker.kill()
