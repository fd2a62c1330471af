"""A real PostgreSQL over TCP that tests can stop, kill and start again on the same port.

It does not use runtime/postgres/server.py, which listens on a socket file, restarts nothing and ends with the
thread that started it. Here any thread may restart the server, and connections may go through proxies.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from runtime.postgres.home import DATABASE, Home, runnable_programs
from runtime.postgres.leftovers import (
    end_processes,
    pid_file_lines,
    remove_stale_files,
    server_name,
)
from runtime.postgres.user import ServerUser
from tests.support.processes.services import free_port, temporary_folder

Command = list[str | Path]
START_S_MAX = 120
STOP_S_MAX = 60
OWNER = "voltwire"
READY_LINE = 7  # The line of postmaster.pid with the state, counted from 0.
SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
    "max_locks_per_transaction": "256",  # A query without time bounds locks every partition.
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
}  # fsync stays on: the tests are about crashes.
# Small WAL segments leave room for data on a disk of 250 MB.
INITDB = (
    "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8", "--locale=C", "--data-checksums", "--wal-segsize=4", "--no-sync",
    "--no-instructions",
)  # fmt: skip
MAKE_DATABASE = f"create role {OWNER} login;\ncreate database {DATABASE} owner {OWNER};\n"
# Stops the server when this process ends: the read returns when the kernel closes our end of the pipe.
WATCHDOG = 'trap "" INT TERM HUP; read x; exec "$0" stop -D "$1" -m immediate'


class PostgresServer:
    """`folder` gets the cluster and the log; `options` override SETTINGS."""

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        self.folder, self.options = folder, dict(options or {})
        self.port = free_port()
        self.dsn = self.connect_through(self.port)
        self.superuser_dsn = f"postgresql://postgres@127.0.0.1:{self.port}/{DATABASE}"
        self._user = ServerUser.choose()
        self._home = Home(folder, self._user)
        self.cluster, self.log = self._home.cluster, self._home.log_file
        self._programs = runnable_programs(self._home)
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._make_cluster()
            watched: Command = ["/bin/sh", "-c", WATCHDOG, self._program("pg_ctl"), self.cluster]
            self._watchdog = subprocess.Popen(watched, **self._popen_options(stdin=subprocess.PIPE))
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop("immediate")
            if (self.cluster / "postmaster.pid").exists():
                self._free_shared_memory()
        finally:
            if self._watchdog is not None:
                self._watchdog.kill()
                self._watchdog.communicate()

    def connect_through(self, port: int) -> str:
        """The DSN with another port, for example that of a proxy."""
        return f"postgresql://{OWNER}@127.0.0.1:{port}/{DATABASE}"

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return when it accepts connections, after recovery. Processes of a killed server end first."""
        end_processes(server_name(self.cluster))
        remove_stale_files(self.cluster, self.cluster)
        fixed = {"port": str(self.port), "cluster_name": server_name(self.cluster)}
        settings = SETTINGS | self.options | fixed
        options = [f"--{name}={value}" for name, value in settings.items()]
        command: Command = [self._program("postgres"), "-D", self.cluster, *options]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, **self._popen_options(stdout=log, stderr=log))
        deadline = time.monotonic() + START_S_MAX
        while not self._is_ready():
            if not self.runs or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start:\n{self._log_tail()}")
            time.sleep(0.02)

    def stop(self, mode: str = "fast") -> None:
        """Send the signal that pg_ctl sends; return when the last process of the server has ended."""
        if self._process is not None:
            self._process.send_signal(SIGNALS[mode])
            try:
                self._process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        self._process = None
        end_processes(server_name(self.cluster))

    def kill(self) -> None:
        """Send SIGKILL to the postmaster only: its children notice and end, busy ones only after a while."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def kill_backends(self, application_name_like: str) -> int:
        """Send SIGKILL to the backends of these clients; PostgreSQL then ends all others, too."""
        pids = self.sql(
            "select pid from pg_stat_activity where backend_type = 'client backend'"
            f" and application_name like '{application_name_like}' and pid <> pg_backend_pid()"
        )
        for pid in map(int, pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def sql(self, statement: str, database: str = DATABASE) -> list[str]:
        """Run a statement as the superuser and return the lines that psql prints."""
        command: Command = [
            self._program("psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--quiet",
            "--set=ON_ERROR_STOP=1", f"--command={statement}",
            f"{self.superuser_dsn.rpartition('/')[0]}/{database}",
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if result.returncode != 0:
            raise OSError(result.stderr.strip())
        return result.stdout.splitlines()

    def _make_cluster(self) -> None:
        self.cluster.mkdir(mode=0o700)
        os.chown(self.cluster, self._user.uid, self._user.gid)
        self._run(self._program("initdb"), f"--pgdata={self.cluster}", *INITDB)
        single = ("--single", "-D", self.cluster, "-c", "exit_on_error=on", "postgres")
        self._run(self._program("postgres"), *single, text=MAKE_DATABASE)

    def _free_shared_memory(self) -> None:
        """A killed server leaves segments, which the next start with its data frees, even one that fails."""
        remove_stale_files(self.cluster, self.cluster)
        options = self._popen_options(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        command: Command = [self._program("postgres"), "--single", "-D", self.cluster, "postgres"]
        subprocess.run(command, check=False, **options)

    def _program(self, name: str) -> Path:
        return self._programs / name

    def _run(self, *command: str | Path, text: str = "") -> None:
        options = self._popen_options(stdin=None, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        result = subprocess.run(command, input=text.encode(), check=False, **options)
        assert result.returncode == 0, result.stdout.decode()

    def _popen_options(self, **files: Any) -> dict[str, Any]:
        """Run as the server's user and out of reach of Ctrl-C, with no code between fork and exec."""
        other = self._user.is_other_user
        user = {"user": self._user.uid, "group": self._user.gid, "extra_groups": []}
        options = {"cwd": "/", "start_new_session": True, "stdin": subprocess.DEVNULL, **files}
        if options["stdin"] is None:
            del options["stdin"]
        return options | (user if other else {})

    def _is_ready(self) -> bool:
        lines = pid_file_lines(self.cluster)
        assert self._process is not None
        ours = len(lines) > READY_LINE and lines[0] == str(self._process.pid)
        return ours and lines[READY_LINE] == "ready"

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


@contextmanager
def postgres_server(
    options: Mapping[str, str] | None = None, folder: Path | None = None
) -> Iterator[PostgresServer]:
    """Start a server whose database `voltwire` is empty and belongs to the user of the DSN.

    Other users must be able to enter `folder`, if the caller gives one.
    """
    if folder is not None:
        with _emptied(folder), PostgresServer(folder, options) as server:
            yield server
        return
    with temporary_folder() as own, PostgresServer(own, options) as server:
        yield server


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder / "postgres", ignore_errors=True)
