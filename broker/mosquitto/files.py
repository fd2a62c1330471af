"""The files of Mosquitto, made from the tables.

Each is replaced as a whole, and only if it changed; nobody but their owner and one group can read them.
"""

import base64
import os
import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from broker.mosquitto.listeners import ACL_FILE, CERTIFICATE_ACL_FILE, PASSWORD_FILE, Listeners
from broker.mosquitto.rights import (
    access_list,
    certificate_access_list,
    has_login,
    login_name,
    own_logins,
)
from runtime.client_ids import is_own_client_id
from schema.access.broker_logins import BrokerLogin, BrokerTables
from schema.access.secrets import CredentialKind, broker_hash

OWN_ITERATIONS = (
    101  # As mosquitto_passwd: the password in MQTT_URL may be one that a person chose.
)
CONFIGURATION = Path("conf.d", "auth.conf")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ChangedFiles:
    """What changed: `listeners` need a restart of Mosquitto, `logins` a reload."""

    listeners: bool
    logins: bool

    def __or__(self, other: "ChangedFiles") -> "ChangedFiles":
        return ChangedFiles(self.listeners or other.listeners, self.logins or other.logins)


NOTHING = ChangedFiles(listeners=False, logins=False)
RELOAD = ChangedFiles(listeners=False, logins=True)


@dataclass(frozen=True, slots=True)
class BrokerFiles:
    """`group` may read the files beside their owner."""

    folder: Path
    listeners: Listeners
    group: int | None = None
    ha_discovery: bool = False

    def write_open(self) -> ChangedFiles:
        """Write the files for authentication off."""
        return ChangedFiles(
            self._write(CONFIGURATION, self.listeners.open_configuration()), logins=False
        )

    def write_closed(self, instance: str, password: str, tables: BrokerTables) -> ChangedFiles:
        """Write them for authentication on: the rights, then the logins, then that logins are required."""
        logins = _usable(instance, tables.logins)
        with_password = [login for login in logins if has_login(login)]
        certified = [login.name for login in logins if login.kind is CredentialKind.CERTIFICATE]
        texts = {
            ACL_FILE: access_list(instance, tables, with_password, ha_discovery=self.ha_discovery),
            CERTIFICATE_ACL_FILE: certificate_access_list(certified),
            PASSWORD_FILE: self._password_file(
                own_logins(instance, tables.last_member), password, with_password
            ),
        }
        changed = [self._write(Path(name), text) for name, text in texts.items()]
        configuration = self.listeners.closed_configuration(self.folder)
        return ChangedFiles(self._write(CONFIGURATION, configuration), logins=any(changed))

    def _password_file(
        self, own: Sequence[str], password: str, logins: Sequence[BrokerLogin]
    ) -> str:
        kept = self._salts()
        lines = [f"{name}:{_own_hash(password, kept.get(name))}\n" for name in own]
        lines += [
            f"{login_name(login)}:{login.hash.mosquitto}\n"
            for login in logins
            if login.hash is not None
        ]
        return "".join(lines)

    def _salts(self) -> Mapping[str, str]:
        """The salts of our own logins in the present file: with new ones the file would change each time."""
        with suppress(FileNotFoundError):
            text = (self.folder / PASSWORD_FILE).read_text(encoding="utf-8")
            return dict(re.findall(rf"(?m)^([^#:]+):\$7\${OWN_ITERATIONS}\$([^$]+)\$", text))
        return {}

    def _write(self, name: Path, text: str) -> bool:
        """Returns whether the file was another one before."""
        file = self.folder / name
        _make_folder(file.parent, self.group)
        if self._is_current(file, text):
            return False
        draft = file.with_name(f"{file.name}.new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            if self.group is not None:
                os.fchown(out.fileno(), -1, self.group)
                os.fchmod(out.fileno(), 0o640)
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
        return True

    def _is_current(self, file: Path, text: str) -> bool:
        with suppress(FileNotFoundError):
            found = file.stat()
            mode = 0o600 if self.group is None else 0o640
            if stat.S_IMODE(found.st_mode) != mode or self.group not in {None, found.st_gid}:
                return False
            return file.read_text(encoding="utf-8") == text
        return False


def _usable(instance: str, logins: Sequence[BrokerLogin]) -> list[BrokerLogin]:
    """The logins without devices that have the name of a session of ours: `device add` refuses them."""
    refused = {
        login.name
        for login in logins
        if login.kind is not CredentialKind.KEY and is_own_client_id(instance, login.name)
    }
    if refused:
        log.warning(
            "Devices have the name of a session of Voltwire's own and get no login: revoke them.",
            devices=sorted(refused),
        )
    return [
        login for login in logins if login.kind is CredentialKind.KEY or login.name not in refused
    ]


def _own_hash(password: str, salt: str | None) -> str:
    plain = None if salt is None else base64.b64decode(salt).decode()
    return broker_hash(password, plain, OWN_ITERATIONS).mosquitto


def _make_folder(folder: Path, group: int | None) -> None:
    if folder.is_dir():
        return
    folder.mkdir(mode=0o700, parents=True)
    if group is not None:
        os.chown(folder, -1, group)
        folder.chmod(0o750)
