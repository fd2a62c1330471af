"""What can be checked without a connection: settings, versions, authentication, ports, disk."""

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from cli.doctor.check_result import CheckResult, failed, ok, skipped, warning
from cli.tables import size_text
from cli.up.ports import listener_on
from runtime.addresses import is_loopback
from runtime.settings import Settings
from runtime.version import VERSION

FREE_BYTES_MIN, FREE_BYTES_SAFE = 100 * 1024**2, 1024**3
OURS = ("voltwire", "-m cli")  # What the command line of a process of ours contains.


def check_machine(settings: Settings) -> Iterator[CheckResult]:
    yield ok("versions", f"Voltwire {VERSION}, Python {platform.python_version()}")
    yield _authentication(settings)
    yield _port("HTTP_PORT", settings.http_host, settings.http_port)
    if settings.mqtt_url is None:
        yield _port("MQTT_PORT", settings.mqtt_host, settings.mqtt_port)
    yield _disk(settings)


def _authentication(settings: Settings) -> CheckResult:
    check = "authentication"
    if settings.authenticated:
        return ok(check, "on: every device and program needs a credential")
    exposed = [host for host in settings.listen_hosts if not is_loopback(host)]
    if not exposed:
        return ok(check, "off: only programs on this machine can connect")
    return warning(
        check,
        f"off, and {', '.join(exposed)} is open to the network: everyone who reaches it may read and write",
        "set AUTH=on, then make a key with voltwire key create admin --scope admin",
    )


def _port(setting: str, host: str, port: int) -> CheckResult:
    """Whether it runs is the business of other checks; here another program would be in its place."""
    found = listener_on(port)
    if found is None:
        return ok(setting, f"nothing listens on {host}:{port}")
    if found.name is None:
        return ok(setting, f"{host}:{port} is in use by a process that this user cannot see")
    if any(each in found.command for each in OURS):
        return ok(setting, f"{host}:{port} is in use by Voltwire (process {found.pid})")
    return failed(
        setting,
        f"{host}:{port} is in use by another program (process {found.pid}, {found.name})",
        f"stop it, or change {setting}",
    )


def _disk(settings: Settings) -> CheckResult:
    check = "disk"
    if settings.database_url is not None:
        return skipped(check, "the database of DATABASE_URL has its own disk: check it there")
    free = shutil.disk_usage(_existing(settings.data_dir)).free
    detail = f"{size_text(free)} are free for {settings.data_dir}"
    remedy = "make room, set RETENTION_DAYS, or move DATA_DIR to a larger disk"
    if free < FREE_BYTES_MIN:
        return failed(check, f"{detail}: PostgreSQL will soon refuse to write", remedy)
    if free < FREE_BYTES_SAFE:
        return warning(check, detail, remedy)
    return ok(check, detail)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it."""
    folder = folder.resolve()
    return next(each for each in (folder, *folder.parents) if each.exists())
