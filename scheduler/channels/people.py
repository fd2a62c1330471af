"""Messages to people, by mail, ntfy, Slack and whatever else Apprise sends to.

Apprise resolves names by itself. We check the address before each attempt, but a name that changes between
our check and its connection can still reach another host; docs/channels.md says so.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from scheduler.channels.addresses import checked_address
from scheduler.channels.errors import DeliveryFailed
from schema.channels.urls import apprise_service, hosts_of

SEND_S_MAX = 30.0
THREADS = 8  # Apprise blocks; a service that does not answer holds one of them.

_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="channel")


async def send_to_people(url: str, title: str, text: str, *, private_addresses: bool) -> None:
    """Raises DeliveryFailed."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(SEND_S_MAX):
            for host in await loop.run_in_executor(_threads, hosts_of, url):
                await checked_address(host, 0, private_addresses=private_addresses)
            sent = await loop.run_in_executor(_threads, _send, url, title, text)
    except TimeoutError as error:
        raise DeliveryFailed(f"not sent within {SEND_S_MAX:.0f} s", retry=True) from error
    except ValueError as error:
        raise DeliveryFailed(str(error), retry=False) from error
    if not sent:
        raise DeliveryFailed("the service did not take the message", retry=True)


def _send(url: str, title: str, text: str) -> bool:
    logging.getLogger("apprise").setLevel(
        logging.CRITICAL
    )  # Its lines name addresses with secrets.
    service = apprise_service(url)
    try:
        return bool(service.notify(title=title, body=text, body_format="text"))
    except Exception as error:  # noqa: BLE001  # A fault of one service must not end all deliveries.
        kind = type(error).__name__  # Its text may hold the address.
        raise DeliveryFailed(f"the service could not be used ({kind})", retry=True) from None
