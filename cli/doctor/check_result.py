"""What a check found, and how to mend it."""

from dataclasses import dataclass
from enum import StrEnum

GIVE_AUTH = "give this command the AUTH of voltwire up, best in .env"


class CheckStatus(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`remedy` is what to do about it, empty if there is nothing to do."""

    check: str
    status: CheckStatus
    detail: str
    remedy: str = ""


def ok(check: str, detail: str) -> CheckResult:
    return CheckResult(check, CheckStatus.OK, detail)


def warning(check: str, detail: str, remedy: str) -> CheckResult:
    return CheckResult(check, CheckStatus.WARNING, detail, remedy)


def failed(check: str, detail: str, remedy: str) -> CheckResult:
    return CheckResult(check, CheckStatus.FAILED, detail, remedy)


def skipped(check: str, detail: str) -> CheckResult:
    return CheckResult(check, CheckStatus.SKIPPED, detail)
