"""What the devices of `voltwire simulate` and `voltwire selftest` connect to, and as whom."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from cli.api_client import api_client, key_header
from cli.device_logins.lifecycle import AddressOf, logged_in
from cli.device_logins.over_http import ANSWER_S_MAX, ApiLogins
from runtime.errors import ConfigurationError
from runtime.settings import Settings


@asynccontextmanager
async def device_addresses(
    settings: Settings, url: str, device_ids: Sequence[str], stop: asyncio.Event
) -> AsyncIterator[AddressOf]:
    """With API_KEY each device has a login of its own, made by the API at `url`.

    At the end the logins are revoked. Raises StartError, and ConfigurationError without a key that is needed.
    """
    if settings.api_key is None:
        if settings.authenticated:
            raise ConfigurationError(
                "Authentication is on, and API_KEY is not set: make an admin key with voltwire key create"
                " NAME --scope admin, and put it into API_KEY."
            )
        address = settings.mqtt
        yield lambda _: address
        return
    async with (
        api_client(url, key_header(settings), ANSWER_S_MAX) as client,
        logged_in(ApiLogins(client), settings.mqtt, device_ids, stop) as address_of,
    ):
        yield address_of
