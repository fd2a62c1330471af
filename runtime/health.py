"""The health of a process: named checks, each ok or failing, as `/health` reports them."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Health:
    """A process is healthy when its required checks are ok; a check never reported counts as failing."""

    required: tuple[str, ...]
    checks: dict[str, tuple[bool, str]] = field(default_factory=dict)
    _failures: Counter[str] = field(default_factory=Counter)

    def report(self, check: str, *, ok: bool, detail: str) -> bool:
        """Set a check. Returns whether it changed between ok and failing."""
        before = self.checks.get(check)
        self.checks[check] = (ok, detail)
        return before is None or before[0] is not ok

    def add_failure(self, check: str, detail: str) -> int:
        """Count one more failing part of this process. Returns how many parts fail now."""
        self._failures[check] += 1
        self.report(check, ok=False, detail=detail)
        return self._failures[check]

    def remove_failure(self, check: str, detail: str) -> int:
        """Count one failing part less; the check is ok at zero. Returns how many parts still fail."""
        self._failures[check] -= 1
        if not self._failures[check]:
            self.report(check, ok=True, detail=detail)
        return self._failures[check]

    @property
    def ok(self) -> bool:
        return all(self.checks.get(name, (False, ""))[0] for name in self.required)

    def document(self, version: str) -> dict[str, Any]:
        names = sorted({*self.required, *self.checks})
        checks = {name: self.checks.get(name, (False, "not reported yet")) for name in names}
        return {
            "status": "ok" if self.ok else "failing",
            "version": version,
            "checks": {
                name: {"status": "ok" if ok else "failing", "detail": detail}
                for name, (ok, detail) in checks.items()
            },
        }
