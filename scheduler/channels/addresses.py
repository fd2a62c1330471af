"""Which addresses a channel may reach: without NOTIFY_PRIVATE_ADDRESSES only those of the public Internet.

Whoever may add channels could otherwise make this server send requests inside its own network.
"""

import asyncio
import ipaddress
import socket

from scheduler.channels.errors import DeliveryFailed

RESOLVE_S_MAX = 5.0
# IPv4 inside IPv6: NAT64 delivers to the address in the last 32 bits.
NAT64 = ipaddress.ip_network("64:ff9b::/96")
# All addresses of IPv6 that hosts of the Internet have. Python counts more as global: ::127.0.0.1, site-local
# ones, the private prefix of NAT64.
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


async def checked_address(host: str, port: int, *, private_addresses: bool) -> str:
    """An address of a host, all of whose addresses may be reached. Raises DeliveryFailed."""
    try:
        async with asyncio.timeout(RESOLVE_S_MAX):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
    except (OSError, UnicodeError, TimeoutError) as error:
        raise DeliveryFailed(f"the name {host} was not found", retry=True) from error
    addresses = [str(entry[4][0]) for entry in found]
    if not private_addresses:
        for address in addresses:
            if not is_public(address):
                raise DeliveryFailed(
                    f"{host} is at {address}, which is no public address; NOTIFY_PRIVATE_ADDRESSES=true"
                    " allows it",
                    retry=False,
                )
    return addresses[0]


def is_public(text: str) -> bool:
    """Whether everybody on the Internet could reach the same host by this address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if address not in GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast
