"""One role in several processes, which a parent starts, restarts and stops together.

The parent does no work of its own, so nothing delays it. It holds the port that its children share.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Annotated

import structlog
import typer

from api.serve.sockets import reserve
from api.serve.workers import Worker
from runtime.errors import ConfigurationError, StartError, VoltwireError
from runtime.signals import stop_on_signals, unless_stopped

WORKERS_MAX = 64
RESTART_S_MIN, RESTART_S_MAX = 0.5, 15.0
STEADY_S = 30.0  # A worker that ran this long is restarted after the shortest pause.
STOP_S_MAX = 8.5  # A child stops within seven seconds, a command within ten.
FAULT_TYPES: dict[str, type[VoltwireError]] = {
    kind.__name__: kind for kind in (ConfigurationError, StartError)
}

log = structlog.get_logger()

Command = Callable[[Worker], Sequence[str]]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=1, max=WORKERS_MAX, help="Processes that share the work.")
]
WorkerOption = Annotated[
    Worker | None,
    typer.Option(
        "--worker", parser=Worker.parse, hidden=True, help="Which of these processes this one is."
    ),
]


def run_workers(total: int, command: Command, environment: Mapping[str, str]) -> None:
    """Run until a signal stops all workers. `command` returns the arguments of each.

    Raises the error of the first worker that cannot work here; one that ends otherwise is restarted.
    """
    with tempfile.TemporaryDirectory(prefix="voltwire-", ignore_cleanup_errors=True) as folder:
        workers = [Worker(Path(folder), number, total) for number in range(1, total + 1)]
        supervisor = Supervisor(command, {**os.environ, **environment})
        asyncio.run(supervisor.run(workers))
    if supervisor.fault is not None:
        raise supervisor.fault


class Supervisor:
    def __init__(self, command: Command, environment: Mapping[str, str]) -> None:
        self.fault: VoltwireError | None = None
        self._command = command
        self._environment = {**environment, "PYTHONPATH": os.pathsep.join(sys.path)}

    async def run(self, workers: Sequence[Worker]) -> None:
        self._stop = asyncio.Event()
        stop_on_signals(self._stop)
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(self._supervise(worker))

    async def _supervise(self, worker: Worker) -> None:
        pause_s = RESTART_S_MIN
        while not self._stop.is_set():
            process = await self._start(worker)
            began = monotonic()
            if not await unless_stopped(self._stop, process.wait()):
                await self._stop_worker(process, worker)
                return
            if self._cannot_work(worker):
                return
            if monotonic() - began > STEADY_S:
                pause_s = RESTART_S_MIN
            log.error(
                "A worker ended unexpectedly and is restarted.",
                worker=worker.number,
                exit_code=process.returncode,
                in_s=pause_s,
            )
            await unless_stopped(self._stop, asyncio.sleep(pause_s))
            pause_s = min(2 * pause_s, RESTART_S_MAX)

    async def _start(self, worker: Worker) -> asyncio.subprocess.Process:
        """Start it out of reach of Ctrl-C, as we send SIGTERM, with a pipe that ends when we end."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "cli", *self._command(worker), "--worker", str(worker)),
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

    async def _stop_worker(self, process: asyncio.subprocess.Process, worker: Worker) -> None:
        """Stop a worker; one whose roles do not run yet has nothing to flush and is killed."""
        with suppress(ProcessLookupError):
            if worker.has_begun:
                process.terminate()
            else:
                process.kill()
        try:
            await asyncio.wait_for(process.wait(), STOP_S_MAX)
        except TimeoutError:
            log.warning(
                "A worker did not stop in time and is killed; unacknowledged messages will be redelivered.",
                worker=worker.number,
            )
            process.kill()
            await process.wait()

    def _cannot_work(self, worker: Worker) -> bool:
        """Whether it left an error that a restart would not fix. The parent raises the first such error."""
        if not worker.fault_file.exists():
            return False
        kind, _, message = worker.fault_file.read_text(encoding="utf-8").partition("\n")
        self.fault = self.fault or FAULT_TYPES[kind](message)
        self._stop.set()
        return True


@contextmanager
def as_worker(worker: Worker | None) -> Iterator[None]:
    """What a child does: end with the parent, add its number to the log, leave its error for the parent."""
    if worker is None:
        yield
        return
    threading.Thread(target=_end_with_parent, args=(worker.folder,), daemon=True).start()
    structlog.contextvars.bind_contextvars(worker=worker.number)
    try:
        yield
    except (ConfigurationError, StartError) as error:
        text = f"{type(error).__name__}\n{error}"
        worker.fault_file.write_text(text, encoding="utf-8")
        raise SystemExit(1) from None


def _end_with_parent(folder: Path) -> None:
    """Wait for the end of the pipe: nobody writes to it, and it ends with the parent."""
    os.read(sys.stdin.fileno(), 1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


@contextmanager
def shared_port(host: str, port: int | None, setting: str) -> Iterator[dict[str, str]]:
    """Hold the port that the children share; yields the setting that names it, also for port 0."""
    if port is None:
        yield {}
        return
    with reserve(host, port, setting) as reserved:
        yield {setting: str(reserved.getsockname()[1])}
