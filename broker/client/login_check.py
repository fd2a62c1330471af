"""Whether a broker accepts a login, for credentials that it may not know yet."""

import asyncio
from typing import NamedTuple

import aiomqtt
from aiomqtt import ProtocolVersion

from broker.client.connection import Connection
from broker.client.options import ClientIdentity, tls_context
from broker.client.session import CREDENTIALS_REFUSED, describe_trouble
from runtime.addresses import MqttAddress
from runtime.errors import StartError

TRY_EVERY_S = 0.2
KEEPALIVE_S = 15


async def until_accepted(address: MqttAddress, client_id: str, s_max: float) -> None:
    """Return once the broker accepts this login. Raises StartError if it does not in this time.

    The session of this client id on the broker is deleted.
    """
    trouble = "does not answer"
    try:
        async with asyncio.timeout(s_max):
            while (found := await _refusal(address, client_id)) is not None:
                trouble = found.trouble
                await asyncio.sleep(TRY_EVERY_S)
    except TimeoutError:
        raise StartError(
            f"The broker has not accepted the new login of {client_id} within {s_max:g} s. It {trouble}."
        ) from None


class Refusal(NamedTuple):
    """Why there is no connection, to follow the name of the broker."""

    trouble: str
    asks_for_login: bool


async def try_login(address: MqttAddress, client_id: str, s_max: float) -> Refusal | None:
    """Log in once; None if the broker accepts it."""
    try:
        async with asyncio.timeout(s_max):
            return await _refusal(address, client_id)
    except TimeoutError:
        return Refusal(describe_trouble(None), asks_for_login=False)


async def _refusal(address: MqttAddress, client_id: str) -> Refusal | None:
    """Try to connect, with the MQTT version that every broker speaks."""
    identity = ClientIdentity(
        address, client_id, tls_context(address), KEEPALIVE_S, receive_maximum=1, session_expiry_s=0
    )
    connection = Connection(identity, ProtocolVersion.V311, 1, lambda _: None)
    try:
        async with connection.client:
            return None
    except aiomqtt.MqttError as error:
        code = None if connection.connack is None else connection.connack.value
        return Refusal(describe_trouble(error, code), code in CREDENTIALS_REFUSED)
    finally:
        connection.close()
