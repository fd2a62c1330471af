"""The password by which a broker knows Voltwire's own sessions.

`voltwire up` makes one for its embedded broker at each start and keeps it in memory. For separate roles it is
the password in MQTT_URL, else a file in DATA_DIR that the first of them creates and only its user can read.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from runtime.errors import StartError
from runtime.settings import Settings

FILE = "broker-password"
BYTES = 32


def make_password() -> str:
    return secrets.token_urlsafe(BYTES)


def broker_password(settings: Settings) -> str:
    """The password, for the broker itself or its files. Raises StartError."""
    if settings.mqtt_url is not None and settings.mqtt.password:
        return settings.mqtt.password
    return _stored_password(settings.data_dir)


def with_broker_password(settings: Settings) -> Settings:
    """The settings of a role that connects to a broker. Raises StartError.

    Another broker than the embedded one needs a login if authentication is on; MQTT_URL may have one, and
    a client certificate is one, too.
    """
    if settings.mqtt_url is not None and not (settings.authenticated and settings.mqtt.anonymous):
        return settings
    return settings.with_mqtt_password(_stored_password(settings.data_dir))


def _stored_password(folder: Path) -> str:
    """Several processes may start at once: the file appears complete, and the first one counts."""
    file = folder / FILE
    try:
        if not file.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = folder / f"{FILE}.{os.getpid()}-{secrets.token_hex(4)}"
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                out.write(make_password())
            with suppress(FileExistsError):
                os.link(draft, file)
            draft.unlink()
        password = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StartError(
            f"The password of the broker in {file} cannot be used"
            f" ({error.strerror or error}): run all roles as one user with one DATA_DIR, or set MQTT_URL"
            " with a password in every role."
        ) from error
    if not password:
        raise StartError(f"{file} is empty: delete it, and start all roles again.")
    return password
