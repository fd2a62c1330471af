"""Who calls, from the check of the credential to the end of the request."""

from contextvars import ContextVar
from dataclasses import dataclass

from schema.access.audit import Actor
from schema.access.credentials import Credential
from schema.access.secrets import CredentialKind

STRANGER = "anyone"  # In the audit: without a credential, or while authentication is off.


@dataclass(frozen=True, slots=True)
class Caller:
    """`session` is the digest of the cookie, if that showed the credential."""

    address: str | None = None
    credential: Credential | None = None
    session: bytes | None = None

    @property
    def actor(self) -> Actor:
        name = STRANGER if self.credential is None else self.credential.actor
        return Actor(name, self.address)

    @property
    def device_id(self) -> str | None:
        """The only device whose events it may post; None: any."""
        credential = self.credential
        return (
            credential.name
            if credential is not None and credential.kind is CredentialKind.DEVICE
            else None
        )


# A request is a task of its own, so each has its own value, which everything that it calls can read.
_caller: ContextVar[Caller] = ContextVar("caller", default=Caller())  # noqa: B039  # It is frozen.


def caller() -> Caller:
    return _caller.get()


def set_caller(found: Caller) -> None:
    _caller.set(found)
