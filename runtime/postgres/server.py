"""The embedded PostgreSQL server, used without DATABASE_URL. It runs as long as its owner.

1. Lock the data folder for one owner; the kernel releases the lock when the owner ends.
2. Find the home of the server (home.py) and the user it runs as (user.py).
3. Remove what an earlier owner left (leftovers.py); create the cluster if there is none.
4. Start the server, wait until it accepts connections, return its address.
5. Stop it, and return when its last process has ended.

Only the programs come from the wheel: its own launcher widens the modes of folders above the data and
leaves servers running.
"""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs, quote, urlsplit

import psutil
import structlog

from runtime.errors import StartError
from runtime.postgres.home import (
    CLUSTER,
    DATABASE,
    Home,
    find_home,
    make_cluster,
    make_folder,
    open_private,
    possible_homes,
    runnable_programs,
    socket_folder,
)
from runtime.postgres.leftovers import (
    FAST_STOP_S_MAX,
    POLL_S,
    SOCKET_NAME,
    end_processes,
    pid_file_lines,
    remove_stale_files,
    server_name,
)
from runtime.postgres.user import ServerUser

SETTINGS = {
    "shared_buffers": "256MB",  # Enough for hot indexes, small enough for a laptop.
    "max_wal_size": "4GB",  # With the timeout: few checkpoints, so few full page images in the WAL.
    "checkpoint_timeout": "15min",
    "min_wal_size": "256MB",  # An idle laptop keeps this much; a busy server keeps what it uses.
    "wal_compression": "off",  # The wheel has only pglz, which costs more than it saves.
    "random_page_cost": "1.1",  # For SSDs.
    "autovacuum_naptime": "15s",  # Presence and alert states are updated constantly.
    "max_locks_per_transaction": "256",  # A query without time bounds locks every partition.
    "max_connections": "100",
    "synchronous_commit": "on",  # A receipt says "stored" only when the event is on disk.
    "timezone": "UTC",
    "log_timezone": "UTC",
}
READY_S_MAX = 600  # Recovery after a crash reads up to max_wal_size.
STILL_STARTING_S = 10  # Between two log lines about a slow start.
LOCK_WAIT_S_MAX = 5
QUIT_S_MAX = 0.5  # A server that can still handle SIGQUIT does so at once.
LOG_TAIL_BYTES = 1500
# Lines of postmaster.pid, counted from 0 (LOCK_FILE_LINE_… in miscadmin.h).
SOCKETS_LINE, STATUS_LINE = 4, 7

log = structlog.get_logger()


@contextmanager
def embedded_postgres(
    data_dir: Path,
    *,
    options: Mapping[str, str] = {},
    stop_s_max: Callable[[], float] = lambda: FAST_STOP_S_MAX,
) -> Iterator[str]:
    """The DSN of the database `voltwire` on a server that ends with the block or with this process.

    It is synchronous, for use before the event loop starts. `options` are server settings that override
    ours; `stop_s_max` returns, at the end, how long a clean shutdown may take. As root, let this
    function create `data_dir`, so that the server's user can pass through it.

    Raises:
        StartError: there is another owner, or the server cannot start; the message names its log.
        RuntimeError: not in the main thread; the server ends with the thread that started it.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("embedded_postgres() must be called in the main thread.")
    with ExitStack() as stack:
        try:
            dsn = _start(stack, data_dir.resolve(), options, stop_s_max)
        except OSError as error:
            raise StartError(
                f"The embedded PostgreSQL in {data_dir} cannot start: {error}."
            ) from error
        yield dsn


def running_postgres(data_dir: Path) -> str | None:
    """The DSN of the server that another process runs on this data folder, or None."""
    for home in possible_homes(data_dir.resolve()):
        lines = pid_file_lines(home / CLUSTER)
        if len(lines) > STATUS_LINE and lines[STATUS_LINE] == "ready":
            dsn = _dsn(lines[SOCKETS_LINE])
            return dsn if has_listener(dsn) else None
    return None


def require_unowned(data_dir: Path) -> None:
    """Raises StartError if another process owns the server of this data folder."""
    with (
        suppress(FileNotFoundError, PermissionError),  # embedded_postgres() says what is wrong.
        (data_dir / "owner.lock").open("rb") as file,
    ):
        _lock(file, data_dir)


def has_listener(dsn: str) -> bool:
    """Whether a server holds the socket of this DSN; a full queue of connections counts, too."""
    folder = parse_qs(urlsplit(dsn).query)["host"][0]
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        return probe.connect_ex(f"{folder}/{SOCKET_NAME}") not in {errno.ECONNREFUSED, errno.ENOENT}


def _dsn(sockets: object) -> str:
    return f"postgresql://postgres@/{DATABASE}?host={quote(str(sockets))}&port=5432"


def _start(
    stack: ExitStack,
    data_dir: Path,
    options: Mapping[str, str],
    stop_s_max: Callable[[], float],
) -> str:
    user = ServerUser.choose()
    make_folder(data_dir, user)
    stack.enter_context(_ownership(data_dir))
    home = find_home(data_dir, user)
    if home.cluster.exists():
        end_processes(server_name(home.cluster))
    programs = runnable_programs(home)
    make_cluster(home, programs)
    sockets = stack.enter_context(socket_folder(home))
    remove_stale_files(home.cluster, sockets)
    stack.enter_context(_server(home, programs, sockets, options, stop_s_max))
    return _dsn(sockets)


@contextmanager
def _ownership(data_dir: Path) -> Iterator[None]:
    """Hold a lock that the kernel releases when we end; programs we start do not inherit it."""
    with open_private(data_dir / "owner.lock", 0) as file:
        _lock(file, data_dir)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()).encode())
        yield


def _lock(file: BinaryIO, data_dir: Path) -> None:
    """Raises StartError. Children forked by a killed owner may hold the lock for a moment longer."""
    deadline = time.monotonic() + LOCK_WAIT_S_MAX
    while True:
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.seek(0)
        owner = int(file.read() or 0)
        if psutil.pid_exists(owner):
            raise StartError(f"{data_dir} is in use by process {owner}: stop it first.")
        if time.monotonic() > deadline:
            raise StartError(
                f"{data_dir} is in use by a child of process {owner}, which has ended."
            )
        time.sleep(POLL_S)


@contextmanager
def _server(
    home: Home,
    programs: Path,
    sockets: Path,
    options: Mapping[str, str],
    stop_s_max: Callable[[], float],
) -> Iterator[None]:
    name = server_name(home.cluster)
    fixed = {
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_directories": str(sockets),
        "cluster_name": name,
    }
    settings = [f"--{key}={value}" for key, value in (SETTINGS | dict(options) | fixed).items()]
    command: list[str | Path] = [programs / "postgres", "-D", home.cluster, *settings]
    with home.open_log() as output:
        process = home.user.start(*command, output=output)
    try:
        with home.user.watchdog(process.pid):
            _wait_until_ready(process, home)
            log.info("The embedded PostgreSQL is ready.", cluster=str(home.cluster))
            yield
    finally:
        if not _stop(process, home, stop_s_max()):
            end_processes(
                name, wait_s_max=0
            )  # The postmaster has ended; its children have not noticed yet.
        end_processes(name)


def _wait_until_ready(process: "subprocess.Popen[bytes]", home: Home) -> None:
    started = logged = time.monotonic()
    while not _is_ready(process.pid, home):
        if process.poll() is not None:
            raise StartError(
                f"PostgreSQL did not start; {home.log_file} ends with: {_log_tail(home)}"
            )
        now = time.monotonic()
        if now - started > READY_S_MAX:
            raise StartError(f"PostgreSQL took over {READY_S_MAX} s to start; see {home.log_file}.")
        if now - logged > STILL_STARTING_S:
            logged = now
            log.info("PostgreSQL is still starting.", log_file=str(home.log_file))
        time.sleep(POLL_S)


def _is_ready(pid: int, home: Home) -> bool:
    lines = pid_file_lines(home.cluster)
    return len(lines) > STATUS_LINE and lines[0] == str(pid) and lines[STATUS_LINE] == "ready"


def _log_tail(home: Home) -> str:
    return home.log_file.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()


def _stop(process: "subprocess.Popen[bytes]", home: Home, seconds: float) -> bool:
    """Shut down fast; after `seconds` without the last checkpoint (SIGQUIT), finally with SIGKILL.

    Returns whether the server ended without SIGKILL.
    """
    if process.poll() is not None:
        log.warning("PostgreSQL ended unexpectedly.", log_file=str(home.log_file))
        return True
    for number, wait_s in (
        (signal.SIGINT, seconds),
        (signal.SIGQUIT, QUIT_S_MAX),
        (signal.SIGKILL, None),
    ):
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
            return number is not signal.SIGKILL
        log.warning("PostgreSQL does not stop.", after=number.name, log_file=str(home.log_file))
    raise AssertionError("The wait after SIGKILL has no time limit.")
