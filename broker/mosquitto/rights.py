"""The access lists of Mosquitto: which login may read and write which topics.

Devices share four patterns, in which Mosquitto puts the login for %u. Everybody else has lines of
its own; `deny` takes back what a pattern would give to a login that is no device_id.
"""

from collections.abc import Iterable, Iterator, Sequence

from broker import topics
from broker.topics import TopicKind
from runtime.client_ids import ingest_client_id, relay_client_id
from schema.access.broker_logins import BrokerLogin, BrokerTables
from schema.access.credentials import KEY_LOGIN_PREFIX, Scope, device_login
from schema.access.secrets import CredentialKind

HEADER = "# Written by voltwire broker-files, which overwrites changes.\n"
# More members than the table knows may start at any time: as many as one command starts.
SPARE_MEMBERS = 64
SCOPES = frozenset({Scope.INGEST, Scope.READ})  # Those that give a key rights at the broker.
# Without any line an access list would not limit anything.
NOBODY = "user voltwire:nobody\ntopic deny #\n"


def login_name(login: BrokerLogin) -> str:
    """The user name at the broker."""
    if login.kind is CredentialKind.KEY:
        return f"{KEY_LOGIN_PREFIX}{login.name}"
    return device_login(login.name)


def has_login(login: BrokerLogin) -> bool:
    return login.hash is not None and (
        login.kind is CredentialKind.DEVICE or bool(login.scopes & SCOPES)
    )


def own_logins(instance: str, last_member: int) -> list[str]:
    members = range(1, last_member + SPARE_MEMBERS + 1)
    return [
        relay_client_id(instance),
        *(ingest_client_id(instance, number) for number in members),
    ]


def access_list(
    instance: str,
    tables: BrokerTables,
    logins: Sequence[BrokerLogin],
    *,
    ha_discovery: bool = False,
) -> str:
    """The acl_file of all who log in with a password. `ha_discovery`: keys may be Home Assistant's."""
    parts = [HEADER, *_own_blocks(instance, tables.last_member, ha_discovery=ha_discovery)]
    for login in logins:
        if login.kind is CredentialKind.KEY:
            parts.append(_block(login_name(login), _key_lines(login, ha_discovery=ha_discovery)))
        elif ":" in login.name:
            name = login_name(login)
            own = [*_device_lines(login.name), f"topic deny devices/{name}/#"]
            parts.append(_block(name, own))
    parts.append(
        "".join(line.replace("topic", "pattern", 1) + "\n" for line in _device_lines("%u"))
    )
    return "\n".join(parts)


def certificate_access_list(names: Iterable[str]) -> str:
    """The acl_file of client certificates: a subject that is not here may do nothing.

    User and client id are the whole subject, so no certificate can take the client id of another session.
    """
    return "\n".join(
        [HEADER, NOBODY, *(_block(f"CN={name}", _device_lines(name)) for name in names)]
    )


def _own_blocks(instance: str, last_member: int, *, ha_discovery: bool) -> Iterator[str]:
    written = ["topic write alerts/#", "topic write presence/#"]
    if ha_discovery:
        written.append(f"topic write {topics.discovery_root(instance)}/#")
    yield _block(relay_client_id(instance), written)
    for number in range(1, last_member + SPARE_MEMBERS + 1):
        lines = [f"topic readwrite {topics.canary(instance)}/#", "topic write devices/+/receipts/#"]
        kinds = list(TopicKind) if number == 1 else [TopicKind.TELEMETRY]
        lines += [f"topic read devices/+/{kind}" for kind in kinds]
        if number == 1:
            lines.append(f"topic read {topics.DROPPED}")
        yield _block(ingest_client_id(instance, number), lines)


def _key_lines(login: BrokerLogin, *, ha_discovery: bool) -> list[str]:
    lines = []
    is_home_assistant = ha_discovery and Scope.READ in login.scopes
    if Scope.INGEST in login.scopes:
        lines += [f"topic write devices/+/{kind}" for kind in TopicKind]
    elif (
        is_home_assistant
    ):  # A deny wins over every other line: this one takes back the patterns alone.
        lines.append(f"topic deny devices/{login_name(login)}/#")
    else:
        lines.append("topic deny devices/#")
    if Scope.READ in login.scopes:
        lines += ["topic read alerts/#", "topic read presence/#"]
    if is_home_assistant:
        telemetry = topics.device("+", TopicKind.TELEMETRY)
        lines += [f"topic read {topics.HOME_ASSISTANT}/#", f"topic read {telemetry}"]
    return lines


def _device_lines(device_id: str) -> list[str]:
    written = [f"topic write {topics.device(device_id, kind)}" for kind in TopicKind]
    return [*written, f"topic read {topics.receipts(device_id)}/#"]


def _block(login: str, lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in [f"user {login}", *lines])
