"""Wrong credentials: a few in a minute per address, each in the audit, whatever an attacker sends."""

import asyncio
from collections import deque
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from time import monotonic

from api.http.rate_limit import RateLimiter
from runtime.errors import TooManyRequests

PER_ADDRESS_MAX, WINDOW_S = 10, 60.0
LISTED_MAX = 300  # Rows of the audit in a minute and process; more are only counted.
NETWORK_BITS = 64  # An IPv6 client has a whole network of addresses, which counts as one.


@dataclass(frozen=True, slots=True)
class FailedLogin:
    """`route` is the one that was called; `unlisted` counts others that have no row of their own."""

    address: str | None
    route: str
    unlisted: int = 0


class FailedLogins:
    def __init__(self) -> None:
        self._of_address = RateLimiter(PER_ADDRESS_MAX, WINDOW_S, "wrong credentials")
        self._listed = RateLimiter(LISTED_MAX, WINDOW_S)
        self._waiting: deque[FailedLogin] = deque()
        self._unlisted = 0
        self.arrived = asyncio.Event()

    def note(self, address: str | None, route: str) -> None:
        """Raises TooManyRequests if the address has shown too many in this minute."""
        now = monotonic()
        self._of_address.take(network_of(address), now)
        if self._has_room(now):
            self._waiting.append(FailedLogin(address, route))
        else:
            self._unlisted += 1
        self.arrived.set()

    def _has_room(self, now: float) -> bool:
        try:
            self._listed.take("", now)
        except TooManyRequests:
            return False
        return len(self._waiting) < LISTED_MAX

    def take(self) -> list[FailedLogin]:
        """The failed logins that are not in the audit yet."""
        self.arrived.clear()
        found = list(self._waiting)
        self._waiting.clear()
        if self._unlisted:
            found.append(FailedLogin(None, "", self._unlisted))
            self._unlisted = 0
        return found

    def put_back(self, failed: list[FailedLogin]) -> None:
        """Take failed logins back that could not be written."""
        for each in reversed(failed):
            if each.unlisted:
                self._unlisted += each.unlisted
            elif len(self._waiting) < LISTED_MAX:
                self._waiting.appendleft(each)
            else:
                self._unlisted += 1


def network_of(address: str | None) -> str:
    """The name under which an address is counted."""
    try:
        found = ip_address(address or "")
    except ValueError:
        return address or "an unknown address"
    if isinstance(found, IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    host_bits = 128 - NETWORK_BITS
    return f"{IPv6Address(int(found) >> host_bits << host_bits)}/{NETWORK_BITS}"
