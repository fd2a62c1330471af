"""Which errors of PostgreSQL mean that the data is refused for good. Everything else is tried again."""

import re

import asyncpg

_POISON_CLASSES = {
    "22",
    "54",
}  # SQLSTATE: data exceptions, program limits. Class 23: see is_poison.
_COPY_LINE = re.compile(r"COPY event, line (\d+)")


def is_poison(error: Exception) -> bool:
    """The whitelist of what may become a dead letter: data that the tables of events refuse.

    A missing partition (23514 without a constraint) is not on it, nor what any other table refuses.
    """
    if isinstance(error, asyncpg.PostgresError):
        if error.sqlstate[:2] == "23":
            return bool(error.constraint_name) and (error.table_name or "").startswith("event")
        return error.sqlstate[:2] in _POISON_CLASSES
    # A value that could not even be encoded, by the driver or by ingestor/store/copy_format.py.
    return isinstance(error, UnicodeError) or (
        isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)
    )


def lacks_partition(error: Exception) -> bool:
    """The CHECK that every partitioned table has without naming it."""
    return isinstance(error, asyncpg.CheckViolationError) and not error.constraint_name


def without_data(error: Exception) -> str:
    """The server's sentence; its DETAIL would repeat the row."""
    return (
        f"{getattr(error, 'sqlstate', type(error).__name__)}: {error.args[0] if error.args else ''}"
    )


def copy_line(error: Exception) -> int | None:
    """The line of the COPY that PostgreSQL refused, where it names one."""
    found = _COPY_LINE.search(getattr(error, "context", None) or "")
    return int(found.group(1)) if found else None
