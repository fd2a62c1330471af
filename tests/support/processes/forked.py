"""A `voltwire` command as a `Popen` whose process is a fork of tests/support/processes/fork_server.py."""

import atexit
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any


class Forked(subprocess.Popen[Any]):
    """It is no child of ours: the fork server hands us its process id, and its wait status through a pipe.

    The methods with an underscore replace those of `Popen` that start a child and wait for it.
    """

    def __init__(self, arguments: Sequence[str], **options: Any) -> None:
        super().__init__(["voltwire", *arguments], **options)

    def _execute_child(self, args: Sequence[str], *options: Any) -> None:
        cwd, env = options[4:6]
        streams = options[9:15]
        ours = [
            stream if stream != -1 else number for number, stream in enumerate(_childs(streams))
        ]
        self._report, report = os.pipe()
        request = {"arguments": args[1:], "environment": dict(env), "folder": str(cwd)}
        socket.send_fds(fork_server(), [json.dumps(request).encode()], [*ours, report])
        os.close(report)
        self.pid = int(self._read_line())
        self._child_created = True
        self._close_pipe_fds(*streams)  # type: ignore[attr-defined]

    def _internal_poll(self, **_: Any) -> int | None:
        return self._ended(0)

    def _wait(self, timeout: float | None) -> int:
        code = self._ended(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def _ended(self, timeout_s: float | None) -> int | None:
        """The exit code as soon as there is one; None after the time."""
        if self.returncode is None and select.select([self._report], [], [], timeout_s)[0]:
            with self._waitpid_lock:  # type: ignore[attr-defined]
                if self.returncode is None:
                    self.returncode = os.waitstatus_to_exitcode(int(self._read_line()))
                    os.close(self._report)
        return self.returncode

    def _read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            read = os.read(self._report, 1)
            assert read, "The fork server has ended."
            line += read
        return line


def _childs(streams: Sequence[int]) -> tuple[int, int, int]:
    """Of the ends of the pipes, or -1 for a stream that is inherited, those of the child."""
    return streams[0], streams[3], streams[5]


@cache
def fork_server() -> socket.socket:
    """Where requests go; it ends with this process, or with the last of its forks."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            # Doctors look for the name.
            [sys.executable, "-m", "tests.support.processes.fork_server", "voltwire"],
            cwd=Path(__file__).parents[3], stdin=theirs.fileno(), stdout=subprocess.DEVNULL,
        )  # fmt: skip
    atexit.register(server.wait)
    atexit.register(ours.close)  # It is called before the wait.
    return ours
