"""The user that the embedded PostgreSQL runs as, and how its programs are started.

PostgreSQL refuses to run as root, so for root it runs as the system user `voltwire`; for any other
user it runs as that user. Every process started here ends with the process that started it.
"""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from runtime.errors import StartError

SYSTEM_USER = "voltwire"
PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, slots=True)
class ServerUser:
    uid: int
    gid: int

    @classmethod
    def choose(cls) -> Self:
        """Our own user, or for root the system user, created if missing. Raises StartError."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        entry = _system_user()
        return cls(entry.pw_uid, entry.pw_gid)

    @property
    def is_other_user(self) -> bool:
        return self.uid != os.geteuid()

    def can_enter(self, folder: Path) -> bool:
        """Try it: modes alone do not cover access lists and network file systems."""
        return self._succeeds("/bin/sh", "-c", 'cd "$0"', str(folder))

    def can_run(self, program: Path) -> bool:
        return self._succeeds(str(program), "--version")

    def run(self, *command: str | Path, text: str = "") -> None:
        """Run a program to its end with `text` as its input. Raises StartError if it fails."""
        result = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            **self.background_options(signal.SIGKILL),
        )
        if result.returncode != 0:
            words = " ".join(result.stderr.split())
            raise StartError(f"{Path(command[0]).name} failed with {result.returncode}: {words}")

    def start(self, *command: str | Path, output: BinaryIO) -> subprocess.Popen[bytes]:
        """Start a server that shuts down fast (SIGINT) when our process ends in any way."""
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            **self.background_options(signal.SIGINT),
        )

    @contextmanager
    def watchdog(self, pid: int) -> Iterator[None]:
        """Stop the server when we end, where the kernel has no parent death signal.

        A shell waits for the end of a pipe that only we hold open. A child made by a bare fork inherits
        the pipe and must close it.
        """
        if sys.platform == "linux":
            yield
            return
        reader, writer = os.pipe()
        script = 'trap "" INT TERM HUP; read x; kill -INT "$0"'
        command = ["/bin/sh", "-c", script, str(pid)]
        watchdog = subprocess.Popen(command, stdin=reader, **self.background_options(signal.SIGINT))
        os.close(reader)
        try:
            yield
        finally:
            watchdog.kill()  # Before the pipe closes: the pid may be reused by now.
            watchdog.wait()
            os.close(writer)

    def _succeeds(self, *command: str) -> bool:
        try:
            self.run(*command)
        except (StartError, OSError):
            return False
        return True

    def background_options(self, death_signal: signal.Signals = signal.SIGKILL) -> dict[str, Any]:
        """Run as this user, in a session that Ctrl-C does not reach, without our environment."""
        switch = (
            {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_other_user else {}
        )
        return switch | {
            "cwd": "/",
            "env": {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            "start_new_session": True,
            "preexec_fn": end_with_parent(death_signal),
        }


def end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` that makes the kernel send this signal when our process ends; Linux only."""
    if sys.platform != "linux":
        return None
    owner, libc = os.getpid(), ctypes.CDLL(None)

    def in_the_child() -> None:  # Runs after the change of user, which clears the signal.
        libc.prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != owner:  # We ended before the kernel was asked.
            os._exit(1)

    return in_the_child


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        _add_system_user()
        return pwd.getpwnam(SYSTEM_USER)


def _add_system_user() -> None:
    advice = f"Add a system user {SYSTEM_USER}, or start Voltwire as an ordinary user"
    reason = f"PostgreSQL does not run as root. {advice}"
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if useradd is None:
        raise StartError(f"{reason}; this machine has no useradd to create it.")
    options = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    result = subprocess.run(
        [useradd, *options, SYSTEM_USER], capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise StartError(f"{reason}; useradd failed: {result.stderr.strip()}")
