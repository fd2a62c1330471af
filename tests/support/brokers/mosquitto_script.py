"""Mosquitto as production runs it: by deploy/mosquitto/run.sh, with the files of voltwire broker-files."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.brokers.mosquitto import placed, require_mosquitto
from tests.support.processes.services import ROOT

READY_S_MAX, STOP_S_MAX = 60, 15
SCRIPT = ROOT / "deploy" / "mosquitto" / "run.sh"


class MosquittoScript:
    """`folder` gets the configuration and the data; `files` and `certificates` are written by others."""

    def __init__(self, folder: Path, files: Path, certificates: Path | None = None) -> None:
        self.log = folder / "run.log"
        data, self._conf = folder / "mosquitto-data", folder / "mosquitto.conf"
        data.mkdir()
        data.chmod(0o777)  # Started as root, Mosquitto switches to another user.
        self._conf.write_text(placed((ROOT / "mosquitto.conf").read_text(), data, files))
        self._folders = [files, *([certificates] if certificates else [])]
        self._program = require_mosquitto()

    @property
    def command(self) -> list[str | Path]:
        return ["sh", SCRIPT, self._conf, *self._folders]

    @contextmanager
    def running(self, command: Sequence[str | Path] = ()) -> Iterator[subprocess.Popen[bytes]]:
        path = f"{Path(self._program).parent}:{os.environ['PATH']}"
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*(command or self.command)], stderr=log, env={"PATH": path}, start_new_session=True
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_S_MAX)
                finally:
                    if process.poll() is None:
                        os.killpg(process.pid, signal.SIGKILL)

    def wait_for_port(self, port: int) -> None:
        deadline = time.monotonic() + READY_S_MAX
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
