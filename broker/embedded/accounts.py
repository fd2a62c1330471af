"""Who may log in to the embedded broker: the devices and keys that have a secret, held in memory.

The broker needs no database for it: it gets changes (account_changes.py). Until the first complete set has
arrived, it refuses everybody but our own sessions.
"""

import hmac
from collections.abc import Sequence

import msgspec

from schema.access.secrets import digest


class Account(msgspec.Struct, frozen=True, gc=False):
    """A login and its valid secrets: two while a rotation overlaps. A key has scopes, a device has none."""

    login: str
    scopes: tuple[str, ...]
    digests: tuple[bytes, ...]

    def accepts(self, secret: bytes) -> bytes | None:
        """The digest of the secret, if it is a valid one."""
        shown = digest(secret)
        valid = [hmac.compare_digest(shown, each) for each in self.digests]
        return shown if any(valid) else None


class AccountChange(msgspec.Struct, frozen=True):
    """`complete`: with this change, every account that exists has arrived."""

    put: Sequence[Account] = ()
    removed: Sequence[str] = ()
    complete: bool = False


class Accounts:
    def __init__(self) -> None:
        self._by_login: dict[str, Account] = {}
        self.complete = False

    def get(self, login: str) -> Account | None:
        return self._by_login.get(login)

    def apply(self, change: AccountChange) -> list[str]:
        """The logins that existed before and changed."""
        known = [each.login for each in change.put if each.login in self._by_login]
        self._by_login.update((each.login, each) for each in change.put)
        for login in change.removed:
            self._by_login.pop(login, None)
        self.complete = self.complete or change.complete
        return [*known, *change.removed]
