"""`voltwire backup FILE`: a complete, consistent dump of the running system."""

import asyncio
import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.backup.program_output import watch
from cli.database import CommandDatabase, database_errors, database_of
from cli.output import AsJson, print_json
from cli.settings import command_settings
from cli.tables import size_text
from runtime.errors import StartError
from runtime.signals import fail_on_signals
from schema.database import connect, require_version
from schema.locks import LOCKS
from schema.queries import load_queries

STANDARD = "-"  # Standard output, or input.
OPTIONS = (
    "--format=custom", "--verbose", "--no-password",
    "--lock-wait-timeout=60s",  # Retention holds its lock for less.
    "--compress=gzip:1",  # Half the time of the default for a tenth more bytes.
)  # fmt: skip
PIECE_BYTES = 1 << 20
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}

queries = load_queries("cli.backup", constants=LOCKS)


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; - for standard output.")],
    *,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Replace the file if it exists, once the new one is complete."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a complete, consistent backup of the database to a file, while everything runs.

    It reads the database of DATABASE_URL, or of the voltwire up on DATA_DIR, whether that runs or not.
    The file appears when it is complete, and only its owner can read it. voltwire restore reads it.
    """
    if as_json and str(file) == STANDARD:
        raise typer.BadParameter("not with a backup on standard output", param_hint="--json")
    settings = command_settings().as_owner()
    fail_on_signals("The backup was interrupted and no file was written: run it again.")
    console = Console(stderr=True)
    began = time.monotonic()
    with (
        _output(file, replace=force) as output,
        database_errors("read"),
        database_of(settings) as database,
    ):
        written = _dump(database, output, console)
    seconds = time.monotonic() - began
    if as_json:
        print_json({"file": str(file), "size_bytes": written, "seconds": round(seconds, 3)})
        return
    shown = "standard output" if str(file) == STANDARD else str(file)
    console.print(
        f"The backup is complete: {shown} ({size_text(written)}, {seconds:.0f} s).",
        soft_wrap=True, highlight=False,
    )  # fmt: skip


def _dump(database: CommandDatabase, output: int, console: Console) -> int:
    """Returns how many bytes were written. Raises StartError."""
    major = asyncio.run(_require_tables(database.dsn))
    process = database.program("pg_dump", major).start(
        database.dsn,
        *OPTIONS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    copy = Copy(process, output)
    copy.start()
    try:
        watch(process, console, lambda: f"{size_text(copy.written)} written", "The backup failed")
    finally:
        copy.join()
        if copy.error is not None:
            raise StartError(
                f"The backup cannot be written ({copy.error.strerror}): make room, or name another file."
            ) from copy.error
    return copy.written


class Copy(threading.Thread):
    """From a program's standard output to a descriptor.

    Given a file as its standard output, pg_dump writes its table of contents twice.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", output: int) -> None:
        super().__init__(daemon=True)
        self.written = 0
        self.error: OSError | None = None
        self._process, self._output = process, output

    def run(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  # It was started with a pipe.
        with self._process.stdout as source:  # Closed early, it ends the program.
            try:
                while piece := os.read(source.fileno(), PIECE_BYTES):
                    self._write(piece)
            except OSError as error:
                self.error = error

    def _write(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            sent = os.write(self._output, rest)
            self.written += sent
            rest = rest[sent:]


async def _require_tables(dsn: str) -> int:
    """The major version of the server. Raises StartError if there is nothing to back up."""
    connection = await connect(dsn, "voltwire backup")
    try:
        await require_version(connection)
        if not await connection.fetchval(queries.holds_tables):
            raise StartError(
                "The database holds no tables of Voltwire, so there is nothing to back up: check"
                " DATABASE_URL and DATA_DIR."
            )
        return connection.get_server_version().major
    finally:
        connection.terminate()


@contextmanager
def _output(file: Path, *, replace: bool) -> Iterator[int]:
    """The descriptor to write to. A file gets its name only if the block succeeds.

    Until then it is FILE.partial, which the next attempt overwrites. Raises StartError.
    """
    if str(file) == STANDARD:
        if sys.stdout.isatty():
            raise StartError("A backup is binary: name a file, or redirect standard output to one.")
        yield sys.stdout.fileno()
        return
    _require_writable(file, replace=replace)
    partial = file.with_name(f"{file.name}.partial")
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _not_written(file, error) from error
    try:
        _lock(descriptor, partial)
        try:
            os.fchmod(descriptor, 0o600)
            os.ftruncate(descriptor, 0)
            yield descriptor
            os.fsync(descriptor)
            _publish(partial, file, replace=replace)
        except OSError as error:
            raise _not_written(file, error) from error
        finally:
            partial.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _require_writable(file: Path, *, replace: bool) -> None:
    if file.is_dir() or (file.exists() and not file.is_file()):
        raise StartError(f"{file} is not a regular file: name a file that the backup may create.")
    if not file.parent.is_dir():
        raise StartError(f"There is no folder {file.parent}: create it, or name another file.")
    if file.exists() and not replace:
        raise _exists(file)


def _lock(descriptor: int, partial: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StartError(f"Another backup is writing {partial}: wait for it.") from error


def _publish(partial: Path, file: Path, *, replace: bool) -> None:
    """Give the file its name, on disk. A link, unlike a rename, never replaces another file."""
    if replace:
        partial.replace(file)
    else:
        try:
            file.hardlink_to(partial)
        except FileExistsError as error:
            raise _exists(file) from error
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            partial.rename(file)  # A file system without links; it was looked for above.
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _exists(file: Path) -> StartError:
    return StartError(f"{file} exists: name another file, or replace it with --force.")


def _not_written(file: Path, error: OSError) -> StartError:
    return StartError(f"{file} cannot be written ({error.strerror}): name another file.")
