"""Remove what an earlier server of the same cluster left behind, and nothing else.

A killed owner leaves a server that is still stopping. A killed server leaves its children, which must
not write beside the next one, and files with pids that other processes may have by now.
"""

import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import structlog

from runtime.errors import StartError

FAST_STOP_S_MAX = 8  # Shorter than the 10 s that container engines allow.
HARD_STOP_S_MAX = 5
POLL_S = 0.01
SOCKET_NAME = ".s.PGSQL.5432"

log = structlog.get_logger()


def server_name(cluster: Path) -> str:
    """The name in the title of each server process, by which `end_processes` finds them.

    It is unique on this machine, also among containers that see each other's processes.
    """
    found = cluster.stat()
    return f"voltwire-{found.st_dev:x}-{found.st_ino:x}"


def end_processes(name: str, *, wait_s_max: float = FAST_STOP_S_MAX) -> None:
    """Wait until the processes of the server `name` have ended, or kill them after `wait_s_max`.

    Raises:
        StartError: the kernel cannot end them, for example because their disk does not respond.
    """
    if _have_ended(name, wait_s_max):
        return
    for number in (signal.SIGQUIT, signal.SIGKILL) if wait_s_max else (signal.SIGKILL,):
        log.warning("An earlier PostgreSQL does not stop and is signalled.", signal=number.name)
        for process in _processes(name):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if _have_ended(name, HARD_STOP_S_MAX):
            return
    pids = [process.pid for process in _processes(name)]
    raise StartError(f"The PostgreSQL processes {pids} of an earlier start cannot be stopped.")


def remove_stale_files(cluster: Path, sockets: Path) -> None:
    """Remove the files that name a pid: PostgreSQL does not start if any process has that pid now.

    If an operator's server runs on the cluster, its files stay, and PostgreSQL's refusal names it.
    """
    lines = pid_file_lines(cluster)
    if lines and _is_server(lines[0], cluster):
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


def _have_ended(name: str, seconds: float) -> bool:
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


def _is_server(pid: str, cluster: Path) -> bool:
    try:
        process = psutil.Process(int(pid))
        return process.name() == "postgres" and str(cluster) in process.cmdline()
    except (ValueError, psutil.Error):
        return False
