"""What an earlier server of the same cluster left behind, and what of it is not ours to touch.

A killed owner leaves a server that is still stopping; a killed server leaves its children, which
must not write beside the next one, and files with pids that by now may belong to strangers.
"""

import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import structlog

from runtime.errors import StartError

FAST_STOP_S_MAX = 8  # Shorter than the 10 s that container engines grant.
HARD_STOP_S_MAX = 5
POLL_S = 0.01
SOCKET_NAME = ".s.PGSQL.5432"

log = structlog.get_logger()


def server_name(cluster: Path) -> str:
    """Stands in the title of each process of a server, where we know them by it.

    Unique on this machine, also among containers that see each other's processes.
    """
    found = cluster.stat()
    return f"voltwire-{found.st_dev:x}-{found.st_ino:x}"


def end_processes(name: str, *, wait_s_max: float = FAST_STOP_S_MAX) -> None:
    """Wait for the processes of the server called `name`, which may be stopping, then end them.

    Raises:
        StartError: the kernel cannot end them, for example because their disk does not answer.
    """
    if _are_gone(name, wait_s_max):
        return
    for number in (signal.SIGQUIT, signal.SIGKILL) if wait_s_max else (signal.SIGKILL,):
        log.warning("An earlier PostgreSQL does not end.", signal=number.name)
        for process in _processes(name):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if _are_gone(name, HARD_STOP_S_MAX):
            return
    pids = [process.pid for process in _processes(name)]
    raise StartError(f"The PostgreSQL processes {pids} of an earlier start do not end.")


def remove_stale_files(cluster: Path, sockets: Path) -> None:
    """Remove what names a pid: PostgreSQL does not start if anybody has that pid now.

    A server that an operator started on the cluster keeps its files: PostgreSQL refuses, naming it.
    """
    lines = pid_file_lines(cluster)
    if lines and _serves(lines[0], cluster):
        return
    for file in (
        cluster / "postmaster.pid",
        sockets / SOCKET_NAME,
        sockets / f"{SOCKET_NAME}.lock",
    ):
        file.unlink(missing_ok=True)


def pid_file_lines(cluster: Path) -> list[str]:
    with suppress(FileNotFoundError):
        text = (cluster / "postmaster.pid").read_text(errors="replace")
        return [line.strip() for line in text.splitlines()]
    return []


def _are_gone(name: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _processes(name):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _processes(name: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "postgres" and name in " ".join(process.info["cmdline"] or [])
    ]


def _serves(pid: str, cluster: Path) -> bool:
    try:
        process = psutil.Process(int(pid))
        return process.name() == "postgres" and str(cluster) in process.cmdline()
    except (ValueError, psutil.Error):
        return False
