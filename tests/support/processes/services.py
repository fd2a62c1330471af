"""What the tests start: temporary folders that every user can read, free ports, `voltwire` processes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import randrange
from typing import Any, Self

import httpx
import psutil

from tests.support.http import plain_http
from tests.support.processes.forked import Forked

ROOT = Path(__file__).parents[3]
PACKAGES = ("runtime", "schema", "broker", "ingestor", "api", "scheduler", "cli")
START_S_MAX = 180  # A failure must not come from a machine that is busy with something else.
COMMAND_S_MAX = 180
PORT_MIN, PORT_MAX = 10_000, 32_000  # Linux gives outgoing connections 32768 and more.
PORTS_KEPT_MAX = 128  # Of a process of the tests; its services have fewer.
STOP_S_MAX = 15  # A command ends within 10 s; a busy machine delays it.
MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 4 * 1024**3  # With less left there, temporary files stay on the disk.
_given_away = deque[socket.socket]()  # See free_port.


def keep_files_in_memory() -> None:
    """Put temporary files, and so every PostgreSQL, where nothing waits for a disk; TMPDIR comes first."""
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and _has_room(os.statvfs(MEMORY)):
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


def _has_room(found: os.statvfs_result) -> bool:
    """The programs of PostgreSQL may be copied there, too."""
    runs_programs = not found.f_flag & os.ST_NOEXEC
    return runs_programs and found.f_bavail * found.f_frsize >= MEMORY_BYTES_MIN


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder readable by all: as root the embedded PostgreSQL runs as another user."""
    folder = Path(tempfile.mkdtemp(prefix="voltwire-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_folder(source: Path, target: Path) -> None:
    """With the owners of the files; complete as soon as it has its name."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    subprocess.run(["cp", "-a", source, unfinished], check=True)
    unfinished.rename(target)


def free_port() -> int:
    """A port below those of outgoing connections, so that none of them takes it before the service does.

    The port of the same number for UDP is kept, which tells other tests that this one is given away.
    """
    while True:
        port = randrange(PORT_MIN, PORT_MAX)
        given_away = socket.socket(type=socket.SOCK_DGRAM)
        try:
            given_away.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            given_away.close()
            continue
        _given_away.append(given_away)
        if len(_given_away) > PORTS_KEPT_MAX:
            _given_away.popleft().close()
        return port


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment without the developer's settings, but with these."""
    inherited = {"PATH", "HOME", "LANG", "TMPDIR"}
    kept = {name: value for name, value in os.environ.items() if name in inherited}
    return {**kept, "PYTHONPATH": str(ROOT), "LOG_FORMAT": "json", **settings}


class Process:
    """One `voltwire` command in its folder, with its log.

    `program` is what Python runs: the product, or the product with a fail point.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        settings: Mapping[str, str],
        program: Sequence[str] = ("-m", "cli"),
    ) -> None:
        self.folder, self.arguments, self.program = folder, arguments, program
        self.settings = dict(settings)
        self.log = folder / f"{arguments[0]}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = self._launch(
                cwd=self.folder,
                env=clean_environment(self.settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _launch(self, **options: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, *self.program, *self.arguments], **options)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.terminate()
        return self.process.wait(STOP_S_MAX)

    def wait_until_ok(self, url: str) -> None:
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if plain_http.get(url, timeout=2).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{self.arguments} is not ready:\n{self.log.read_text()[-4000:]}")


class ForkedProcess(Process):
    """The same for a fraction of the CPU; where how Python starts is not the point."""

    def _launch(self, **options: Any) -> "subprocess.Popen[bytes]":
        return Forked(self.arguments, **options)


def voltwire(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """A command that ends by itself."""
    return voltwire_in(ROOT / "tests", arguments, settings)


def voltwire_in(
    folder: Path, arguments: Sequence[str], settings: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    with Forked(
        arguments, env=clean_environment(settings), cwd=folder,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            said, errors = process.communicate(timeout=COMMAND_S_MAX)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, said, errors)


def family(process: Process) -> list[psutil.Process]:
    """Its children and theirs."""
    return psutil.Process(process.process.pid).children(recursive=True)


def assert_gone(processes: Sequence[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=STOP_S_MAX)
    assert not alive, alive
