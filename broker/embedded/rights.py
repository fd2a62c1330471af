"""Who a client is, and what it may publish and subscribe to.

Our own sessions prove themselves with a password made at start. With authentication on, everybody else
logs in with the secret of a device or key, under the login as client id. With authentication off, every
other client may connect under any client id that is not reserved, with or without a password.
"""

import hmac
import re
from dataclasses import dataclass, replace
from typing import Protocol

from broker import topics
from broker.embedded.accounts import Account, AccountChange, Accounts
from broker.embedded.packets import Connect
from broker.topics import TopicKind
from runtime.client_ids import is_own_client_id
from schema.access.credentials import KEY_LOGIN_PREFIX, Scope

READ_ROOTS = ("alerts", "presence")
# With HA_DISCOVERY: what Home Assistant subscribes to, discovery messages and the telemetry of devices.
_match_telemetry = re.compile(r"devices/[^/#]+/telemetry").fullmatch

_match_outgoing = re.compile(r"alerts/.*|presence/.*|devices/[^/]*/receipts(/.*)?", re.DOTALL)


class Rights(Protocol):
    def may_publish(self, topic: str) -> bool: ...

    def may_subscribe(self, topic_filter: str) -> bool:
        """Whether every topic that the filter matches may be read."""


class Unlimited:
    """The rights of our own sessions."""

    def may_publish(self, _topic: str) -> bool:
        return True

    def may_subscribe(self, _topic_filter: str) -> bool:
        return True


class NoRights:
    """The rights of a revoked account."""

    def may_publish(self, _topic: str) -> bool:
        return False

    def may_subscribe(self, _topic_filter: str) -> bool:
        return False


class AnyClient:
    """The rights of other clients while authentication is off: all topics but those of Voltwire itself."""

    def __init__(self, instance: str) -> None:
        canary = rf"voltwire/{re.escape(instance)}/canary(/.*)?"
        discovery = rf"{topics.discovery_root(instance)}/.*"
        self._match_ours = re.compile(f"{canary}|{discovery}", re.DOTALL).fullmatch

    def may_publish(self, topic: str) -> bool:
        return not (_match_outgoing.fullmatch(topic) or self._match_ours(topic))

    def may_subscribe(self, _topic_filter: str) -> bool:
        return True


class DeviceRights:
    """Its own telemetry, status and heartbeat, and its own receipts."""

    def __init__(self, device_id: str) -> None:
        self._written = frozenset(topics.device(device_id, kind) for kind in TopicKind)
        self._receipts = topics.receipts(device_id)

    def may_publish(self, topic: str) -> bool:
        return topic in self._written

    def may_subscribe(self, topic_filter: str) -> bool:
        return _is_within(topic_filter, self._receipts)


class KeyRights:
    """`ingest`: what devices publish, of any device. `read`: alerts and presence.

    With `ha_discovery`, `read` is also what Home Assistant reads.
    """

    def __init__(self, scopes: tuple[str, ...], *, ha_discovery: bool) -> None:
        self._ingest, self._read = Scope.INGEST in scopes, Scope.READ in scopes
        self._ha_discovery = ha_discovery

    def may_publish(self, topic: str) -> bool:
        return self._ingest and topics.parse(topic) is not None

    def may_subscribe(self, topic_filter: str) -> bool:
        return self._read and (
            any(_is_within(topic_filter, root) for root in READ_ROOTS)
            or (self._ha_discovery and _is_for_home_assistant(topic_filter))
        )


@dataclass(frozen=True, slots=True)
class Login:
    """Who a client proved to be. `client_id` is what its session is known by; "" leaves it to the broker."""

    client_id: str
    rights: Rights
    ours: bool = False
    account: Account | None = None
    digest: bytes | None = None  # The digest of the secret that it showed.

    def without_rights(self) -> "Login":
        return replace(self, rights=NoRights())


class Access:
    """`instance` is the setting INSTANCE. Without `accounts` authentication is off.

    Without a `password` nobody can prove to be one of ours.
    """

    def __init__(
        self,
        instance: str,
        password: str | None,
        accounts: Accounts | None = None,
        *,
        ha_discovery: bool = False,
    ) -> None:
        self._password = password.encode() if password else None
        self._instance = instance
        self._unlimited, self._any_client = Unlimited(), AnyClient(instance)
        self._accounts, self._ha_discovery = accounts, ha_discovery

    @property
    def ready(self) -> bool:
        """Whether it is known who may log in."""
        return self._accounts is None or self._accounts.complete

    def is_reserved(self, client_id: str) -> bool:
        return is_own_client_id(self._instance, client_id)

    def login(self, connect: Connect) -> Login | None:
        """None: the user name, the password or the client id is wrong."""
        if self._is_ours(connect):
            return Login(connect.client_id, self._unlimited, ours=True)
        if self._accounts is None:
            return Login(connect.client_id, self._any_client)
        return _login(connect, self._accounts, ha_discovery=self._ha_discovery)

    def apply(self, change: AccountChange) -> list[str]:
        """The logins that were changed or removed."""
        return [] if self._accounts is None else self._accounts.apply(change)

    def is_valid(self, login: Login) -> bool:
        """Whether it may stay connected: the secret that it showed is still valid."""
        if self._accounts is None or login.account is None:
            return True
        now = self._accounts.get(login.client_id)
        return (
            now is not None and now.scopes == login.account.scopes and login.digest in now.digests
        )

    def is_revoked(self, login: Login) -> bool:
        """Whether it lost its rights, rather than one of its secrets."""
        if self._accounts is None or login.account is None:
            return False
        now = self._accounts.get(login.client_id)
        return now is None or now.scopes != login.account.scopes

    def _is_ours(self, connect: Connect) -> bool:
        return (
            self._password is not None
            and connect.password is not None
            and hmac.compare_digest(connect.password, self._password)
        )


def _login(connect: Connect, accounts: Accounts, *, ha_discovery: bool) -> Login | None:
    """The client id must be the login, or empty: then the broker sets it."""
    name = _decoded(connect.username or "")
    account = accounts.get(name)
    if account is None or connect.password is None:
        return None
    digest = account.accepts(connect.password)
    if digest is None or _decoded(connect.client_id) not in {"", name}:
        return None
    rights = (
        KeyRights(account.scopes, ha_discovery=ha_discovery)
        if name.startswith(KEY_LOGIN_PREFIX)
        else DeviceRights(name)
    )
    return Login(name, rights, account=account, digest=digest)


def _decoded(login: str) -> str:
    """The device_id of a login as Mosquitto's files hold it, where a colon is written %3A."""
    return login.replace("%3A", ":")


def _is_for_home_assistant(topic_filter: str) -> bool:
    within = _is_within(topic_filter, topics.HOME_ASSISTANT)
    return within or _match_telemetry(topic_filter) is not None


def _is_within(topic_filter: str, root: str) -> bool:
    """Whether a filter matches only topics at or below `root`, which contains no wildcard."""
    return topic_filter == root or topic_filter.startswith(f"{root}/")
