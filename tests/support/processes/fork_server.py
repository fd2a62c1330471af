"""A process that has imported Voltwire and becomes one of its commands by forking, whenever it is asked.

A start of Python with these imports costs more than half a second of CPU, a fork a hundredth of that.
`forked.py` asks; what is asked for is a message on standard input with four descriptors: the standard streams
of the command, and the pipe that gets its process id and later its wait status.
"""

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any

from tests.support.processes.services import PACKAGES

REQUEST_BYTES_MAX = 65_536
STREAMS = 3
LEFT_OUT = {"api.export.parquet", "cli.__main__"}  # pyarrow starts threads, which no fork has.


def main() -> None:
    import_everything()
    gc.freeze()  # The collections in the forks, and that of their end, need not read all this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the commands.
    if command := serve():
        become(command)
        runpy.run_module("cli", run_name="__main__", alter_sys=True)


def import_everything() -> None:
    for name in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
            if module.name not in LEFT_OUT:
                importlib.import_module(module.name)


def serve() -> dict[str, Any] | None:
    """Returns in each fork that is to become a command, and here at the end of the test process."""
    with socket.socket(fileno=0) as requests:
        while True:
            request, descriptors, _, _ = socket.recv_fds(requests, REQUEST_BYTES_MAX, STREAMS + 1)
            reap()
            if not request:
                return None
            if os.fork() == 0 and report_child(descriptors):
                requests.detach()
                return dict(json.loads(request))
            for descriptor in descriptors:
                os.close(descriptor)


def reap() -> None:
    """So that the CPU of the commands counts as that of the tests."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def report_child(descriptors: list[int]) -> bool:
    """Fork once more: true in the command; its parent reports how the command ends, and ends."""
    *streams, report = descriptors
    if (pid := os.fork()) == 0:
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        os.closerange(STREAMS, report + 1)
        return True
    os.closerange(0, report)
    os.write(report, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(report, b"%d\n" % status)
    os._exit(0)


def become(command: dict[str, Any]) -> None:
    """Undo what is not so in a process that has just started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(command["environment"])
    time.tzset()
    os.chdir(command["folder"])
    sys.argv = ["voltwire", *command["arguments"]]
    reopen_streams()


def reopen_streams() -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        lines = name == "stderr" or os.isatty(number)
        new = open(  # noqa: SIM115
            number, "w" if number else "r", buffering=1 if lines else -1,
            encoding=old.encoding, errors=old.errors, closefd=False,
        )  # fmt: skip
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


if __name__ == "__main__":
    main()
