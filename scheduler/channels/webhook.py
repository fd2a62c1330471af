"""Webhooks, signed as the Standard Webhooks specification says (https://www.standardwebhooks.com).

The address that was checked is the one connected to, whatever the name resolves to a moment later, and
redirects are not followed.
"""

import asyncio
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeAlias

import httpcore
from standardwebhooks import Webhook

from runtime.version import VERSION
from scheduler.channels.addresses import checked_address
from scheduler.channels.errors import DeliveryFailed
from schema.channels.urls import webhook_key

SEND_S_MAX = 15.0
CONNECT_S_MAX = 5.0
Headers: TypeAlias = "list[tuple[bytes | str, bytes | str]]"

RETRIED = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to the checked address of a host; TLS still verifies the name."""

    def __init__(self, *, private_addresses: bool) -> None:
        self._private_addresses = private_addresses
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # The signature of httpcore.
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        address = await checked_address(host, port, private_addresses=self._private_addresses)
        return await self._network.connect_tcp(
            address, port, timeout, local_address, socket_options
        )


async def send_webhook(
    url: str, secret: str, message_id: str, body: bytes, *, private_addresses: bool
) -> None:
    """Deliver one message. The receiver may use `webhook-id` to recognize a repeat. Raises DeliveryFailed."""
    try:
        async with asyncio.timeout(SEND_S_MAX):
            status = await _post(
                url, _headers(secret, message_id, body), body, private_addresses=private_addresses
            )
    except (TimeoutError, httpcore.TimeoutException) as error:
        raise DeliveryFailed(f"no response within {SEND_S_MAX:.0f} s", retry=True) from error
    except ssl.SSLError as error:
        raise DeliveryFailed("the certificate of the host is not valid", retry=True) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise DeliveryFailed("the connection failed", retry=True) from error
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        retry = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in RETRIED
        raise DeliveryFailed(f"the response was {status}", retry=retry)


async def _post(url: str, headers: Headers, body: bytes, *, private_addresses: bool) -> int:
    network = CheckedNetwork(private_addresses=private_addresses)
    timeouts = {"connect": CONNECT_S_MAX, "read": SEND_S_MAX, "write": SEND_S_MAX}
    async with (
        httpcore.AsyncConnectionPool(network_backend=network, retries=0) as pool,
        pool.stream(
            "POST", url, headers=headers, content=body, extensions={"timeout": timeouts}
        ) as response,
    ):
        return int(response.status)  # The body of a response says nothing that we need.


def _headers(secret: str, message_id: str, body: bytes) -> Headers:
    now = datetime.now(UTC)
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "user-agent": f"Voltwire/{VERSION}",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(webhook_key(secret)).sign(message_id, now, body.decode()),
    }
    return list(headers.items())
