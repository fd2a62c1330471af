"""The valid credentials and sessions of browsers, in memory, found by the digest of what a caller shows."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic

from schema.access.credentials import Credential, Scope
from schema.access.secrets import CredentialKind, digest
from schema.access.sessions import BrowserSession

SECRET_BYTES_MAX = 128  # Longer ones are not even hashed.
SEEN_S_MAX = 1.0  # A change waits so long for this process to see it.


class Keys:
    """The list is unread at first; until it has arrived no credential can be checked."""

    def __init__(self) -> None:
        self.were_read = False
        self._by_digest: dict[bytes, Credential] = {}
        self._by_number: dict[int, Credential] = {}
        self._sessions: dict[bytes, tuple[int, float]] = {}
        self._used: set[int] = set()
        self._changed = asyncio.Condition()

    def find(self, secret: bytes) -> Credential | None:
        """Look it up by its digest, so that the time it takes reveals nothing about the secret."""
        if len(secret) > SECRET_BYTES_MAX:
            return None
        found = self._by_digest.get(digest(secret))
        if found is not None:
            self._used.add(found.id)
        return found

    def find_session(self, token_digest: bytes) -> Credential | None:
        """The key of a browser's session that has not expired."""
        number, ends_at = self._sessions.get(token_digest, (0, 0.0))
        if monotonic() >= ends_at:
            return None
        self._used.add(number)
        return self._by_number.get(number)

    def is_valid(self, credential: Credential, token_digest: bytes | None = None) -> bool:
        """Whether it still is, for a caller who showed it, perhaps as a session."""
        if token_digest is not None:
            return self.find_session(token_digest) is not None
        return credential.id in self._by_number

    @property
    def any_admin(self) -> bool:
        return any(Scope.ADMIN in each.scopes for each in self._by_number.values())

    async def replace(self, credentials: Sequence[Credential]) -> None:
        self._by_digest = {each.digest: each for each in credentials if each.digest is not None}
        self._by_number = {each.id: each for each in credentials}
        self.were_read = True
        await self._notify()

    async def replace_sessions(self, sessions: Sequence[BrowserSession]) -> None:
        now = monotonic()
        self._sessions = {each.digest: (each.credential_id, now + each.left_s) for each in sessions}
        await self._notify()

    async def until(self, seen: Callable[[], bool]) -> None:
        """Wait for a list that shows a change of ours, so that its response is true in this process."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SEEN_S_MAX), self._changed:
                await self._changed.wait_for(seen)

    def holds(self, hashed: bytes) -> bool:
        """Whether the secret, or the token of a session, with this digest is in force in this process."""
        return hashed in self._by_digest or hashed in self._sessions

    def holds_name(self, kind: CredentialKind, name: str) -> bool:
        return any(each.name == name and each.kind is kind for each in self._by_number.values())

    def take_used(self) -> list[int]:
        """The numbers of the credentials that were shown since the last call."""
        used, self._used = self._used, set()
        return sorted(used)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
