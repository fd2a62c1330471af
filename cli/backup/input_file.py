"""The file that a restore reads: what voltwire backup or pg_dump wrote, or standard input."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.backup.backup import STANDARD
from runtime.errors import StartError

MAGIC = b"PGDMP"


@contextmanager
def backup_file(file: Path) -> Iterator[int]:
    """The descriptor to read from. Raises StartError for a file that is no backup."""
    if str(file) == STANDARD:
        if sys.stdin.isatty():
            raise StartError("A backup is binary: name a file, or redirect one to standard input.")
        yield sys.stdin.fileno()
        return
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise StartError(f"{file} cannot be read ({error.strerror}): name a backup.") from error
    try:
        if not file.is_file() or os.pread(descriptor, len(MAGIC), 0) != MAGIC:
            raise StartError(
                f"{file} is no backup: name a file that voltwire backup or pg_dump --format=custom wrote."
            )
        yield descriptor
    finally:
        os.close(descriptor)
