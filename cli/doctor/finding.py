"""What a check found, and how to mend it."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` is what to do about it, empty if there is nothing to do."""

    check: str
    status: Status
    detail: str
    remedy: str = ""


def ok(check: str, detail: str) -> Finding:
    return Finding(check, Status.OK, detail)


def warning(check: str, detail: str, remedy: str) -> Finding:
    return Finding(check, Status.WARNING, detail, remedy)


def failed(check: str, detail: str, remedy: str) -> Finding:
    return Finding(check, Status.FAILED, detail, remedy)


def skipped(check: str, detail: str) -> Finding:
    return Finding(check, Status.SKIPPED, detail)
