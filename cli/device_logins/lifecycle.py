"""Logins for the devices of our own commands: made before they connect, and removed after they have left.

With authentication on, a broker accepts no device that has no credentials.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from broker.client.login_check import until_accepted
from runtime.addresses import MqttAddress
from runtime.signals import unless_stopped

KNOWN_S_MAX = 60.0  # Until the broker knows a new login; Mosquitto gets them through files.

AddressOf = Callable[[str], MqttAddress]  # What a device connects to, by its id.
UntilKnown = Callable[[MqttAddress, str, float], Coroutine[Any, Any, None]]  # As `until_accepted`.


class DeviceLogin(NamedTuple):
    user: str
    secret: str


class LoginStore(Protocol):
    async def create(self, device_ids: Sequence[str]) -> dict[str, DeviceLogin]:
        """A login for each; the last of these ids gets the newest one."""

    async def remove(self, device_ids: Sequence[str]) -> None: ...


@asynccontextmanager
async def logged_in(
    store: LoginStore,
    broker: MqttAddress,
    device_ids: Sequence[str],
    stop: asyncio.Event,
    until_known: UntilKnown = until_accepted,
) -> AsyncIterator[AddressOf]:
    """Addresses with logins that the broker knows, unless `stop` is set. They are removed at the end.

    Unless something better than trying tells when the broker knows them, they are tried. Raises StartError.
    """
    try:
        logins = await store.create(device_ids)
        addresses = {
            device_id: replace(broker, username=login.user, password=login.secret)
            for device_id, login in logins.items()
        }
        newest = device_ids[-1]  # A broker that knows it knows the others, too.
        await unless_stopped(stop, until_known(addresses[newest], newest, KNOWN_S_MAX))
        yield addresses.__getitem__
    finally:
        await store.remove(device_ids)
