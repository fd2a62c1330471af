"""A real Mosquitto with the product's mosquitto.conf, on a free port and in a temporary folder.

Its listener accepts everybody, unless a test writes other files: voltwire broker-files, as in production.
"""

import grp
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from broker.mosquitto.files import BrokerFiles
from broker.mosquitto.listeners import ListenAddress, Listeners
from tests.support.processes.programs import require_program
from tests.support.processes.services import ROOT, free_port, temporary_folder

RUNNING, RELOADING = re.compile(r"mosquitto version \S+ running"), re.compile(r"Reloading config\.")
START_S_MAX = 60
STOP_S_MAX = 60


def require_mosquitto() -> str:
    return require_program("mosquitto")


def mosquitto_group() -> int | None:
    """Started as root, Mosquitto switches to a user of this group."""
    return grp.getgrnam("mosquitto").gr_gid if os.geteuid() == 0 else None


def placed(text: str, data: Path, files: Path) -> str:
    """The text of mosquitto.conf with other folders."""
    for name, folder in (("/mosquitto/data/", data), ("/mosquitto/files/", files)):
        assert text.count(name) == 1
        text = text.replace(name, f"{folder}/")
    return text


class Mosquitto:
    """One broker that can be stopped, killed and started again on the same port and folder.

    `options` replace those of the product's mosquitto.conf.
    """

    def __init__(self, folder: Path, options: Mapping[str, str] = {}) -> None:
        self.port = free_port()
        self.more_ports: tuple[int, ...] = ()
        self.data = folder / "data"
        self.files = folder / "files"
        self.log = folder / "mosquitto.log"
        self._conf = folder / "mosquitto.conf"
        self._program = require_mosquitto()
        self._process: subprocess.Popen[bytes] | None = None
        self.listeners = Listeners(
            ListenAddress(self.port, "127.0.0.1"),
            ListenAddress(free_port(), "127.0.0.1"),
            ListenAddress(free_port(), "127.0.0.1"),
        )
        BrokerFiles(self.files, self.listeners, mosquitto_group()).write_open()
        self.data.mkdir()
        self.data.chmod(0o777)  # Started as root, Mosquitto switches to another user.
        self._conf.write_text(self._configuration(options))

    def start(self) -> None:
        """Return once it runs: before that a signal ends it, although it listens."""
        starts = self._logged(RUNNING)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([self._program, "-c", self._conf], stderr=log)
        deadline = time.monotonic() + START_S_MAX
        while self._logged(RUNNING) == starts or not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"Mosquitto did not start:\n{self.log.read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Send SIGTERM: it saves everything."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL: it saves nothing."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def memory_bytes(self) -> int:
        assert self._process is not None
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def reload(self) -> None:
        """Return once it has begun: who connects just then is cut, and connects again."""
        before = self._logged(RELOADING)
        self._signal(signal.SIGHUP)
        deadline = time.monotonic() + START_S_MAX
        while self._logged(RELOADING) == before:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.002)

    def lose_state(self) -> None:
        """Empty the data folder, between kill and start."""
        for file in self.data.iterdir():
            file.unlink()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze it during the block: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _configuration(self, options: Mapping[str, str]) -> str:
        text = (ROOT / "mosquitto.conf").read_text()
        for name, value in options.items():
            text, found = re.subn(rf"(?m)^{name} .*", f"{name} {value}", text)
            assert found == 1, name
        return placed(text, self.data, self.files)

    def _logged(self, line: re.Pattern[str]) -> int:
        return len(line.findall(self.log.read_text())) if self.log.exists() else 0

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _listens(self) -> bool:
        return all(self._listens_on(port) for port in (self.port, *self.more_ports))

    def _listens_on(self, port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(STOP_S_MAX)
            self._process = None


@contextmanager
def mosquitto(options: Mapping[str, str] = {}) -> Iterator[Mosquitto]:
    with temporary_folder() as folder:
        broker = Mosquitto(folder, options)
        broker.start()
        try:
            yield broker
        finally:
            broker.kill()
