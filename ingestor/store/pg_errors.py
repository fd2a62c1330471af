"""The errors by which PostgreSQL refuses data permanently. Everything else is retried."""

import re

import asyncpg

# SQLSTATE: data exceptions, program limits. Class 23: see is_poison.
_POISON_CLASSES = {"22", "54"}
_COPY_LINE = re.compile(r"COPY event, line (\d+)")


def is_poison(error: Exception) -> bool:
    """Whether the error may turn an event into a dead letter: an event table refused the data itself.

    A missing partition (23514 without a constraint) does not count, nor an error of any other table.
    """
    if isinstance(error, asyncpg.PostgresError):
        if error.sqlstate[:2] == "23":
            return bool(error.constraint_name) and (error.table_name or "").startswith("event")
        return error.sqlstate[:2] in _POISON_CLASSES
    # The driver, or ingestor/store/copy_format.py, could not encode a value.
    return isinstance(error, UnicodeError) or (
        isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)
    )


def lacks_partition(error: Exception) -> bool:
    """Whether no partition takes the row: PostgreSQL reports it as a CHECK without a name."""
    return isinstance(error, asyncpg.CheckViolationError) and not error.constraint_name


def without_data(error: Exception) -> str:
    """The message of the server without its DETAIL, which would repeat the row."""
    return (
        f"{getattr(error, 'sqlstate', type(error).__name__)}: {error.args[0] if error.args else ''}"
    )


def copy_line(error: Exception) -> int | None:
    """The line of the COPY that PostgreSQL refused, if it names one."""
    found = _COPY_LINE.search(getattr(error, "context", None) or "")
    return int(found.group(1)) if found else None
