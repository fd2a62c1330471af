"""What a role says about itself: named checks, each ok or not, and whether it can do its job."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Health:
    """`/health` is built from it. A check that was never reported counts as failing."""

    required: tuple[str, ...]
    checks: dict[str, tuple[bool, str]] = field(default_factory=dict)
    _troubles: Counter[str] = field(default_factory=Counter)

    def report(self, check: str, *, ok: bool, detail: str) -> bool:
        """Set a check. Returns whether it changed between ok and failing."""
        before = self.checks.get(check)
        self.checks[check] = (ok, detail)
        return before is None or before[0] is not ok

    def trouble(self, check: str, detail: str) -> int:
        """One more part of the process finds this check failing. Returns how many do now."""
        self._troubles[check] += 1
        self.report(check, ok=False, detail=detail)
        return self._troubles[check]

    def relief(self, check: str, detail: str) -> int:
        """One of them does not any more: the check is ok when none is left. Returns how many are."""
        self._troubles[check] -= 1
        if not self._troubles[check]:
            self.report(check, ok=True, detail=detail)
        return self._troubles[check]

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
