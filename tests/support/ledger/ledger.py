"""What clients sent and which responses they got, compared with what is stored: no event lost or duplicated.

The comparison follows Jepsen's total-queue checker. Every event carries a distinct integer, so that a
duplicated or swapped one shows in the sums of the API as well as in its row.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

EXAMPLES_MAX = 5

Key = tuple[str, str]  # device_id, event_id


class StoredRow(NamedTuple):
    device_id: str
    event_id: str
    value: float | None


class Ledger:
    """Attempted events, and which of them were accepted; the rest is unknown. Thread-safe.

    The name of every device begins with `prefix`: tests share an installation, but not devices.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._values: dict[Key, int] = {}
        self._ok: set[Key] = set()
        self._lock = threading.Lock()

    def attempt(self, device: str) -> tuple[Key, int]:
        """Record a new event before it is sent; return its key, whose id grows, and its value."""
        with self._lock:
            value = len(self._values) + 1
            key = (f"{self.prefix}{device}", f"e{value:07d}")
            self._values[key] = value
            return key, value

    def accept(self, *keys: Key) -> None:
        """Record events that HTTP answered with ok, stored or duplicate, or that got PUBACK or receipt."""
        with self._lock:
            assert self._values.keys() >= set(keys), keys
            self._ok.update(keys)

    @property
    def attempted(self) -> dict[Key, int]:
        with self._lock:
            return dict(self._values)

    @property
    def ok(self) -> set[Key]:
        with self._lock:
            return set(self._ok)

    @property
    def devices(self) -> list[str]:
        return sorted({device_id for device_id, _ in self.attempted})


@dataclass(frozen=True, slots=True)
class Report:
    """Counts of events; the last five fields hold their keys."""

    attempted: int
    ok: int
    rows: int
    lost: frozenset[Key]  # accepted, not stored
    duplicated: frozenset[Key]  # stored more than once
    unexpected: frozenset[Key]  # stored, never attempted
    wrong: frozenset[Key]  # stored with another value
    recovered: frozenset[Key]  # stored, but never answered: allowed

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicated or self.unexpected or self.wrong)

    def require_clean(self) -> None:
        """Raises AssertionError with the counts and a few examples."""
        assert self.clean, str(self)

    def __str__(self) -> str:
        parts = [f"attempted={self.attempted} ok={self.ok} rows={self.rows}"]
        for name in ("lost", "duplicated", "unexpected", "wrong", "recovered"):
            keys = getattr(self, name)
            examples = f" {sorted(keys)[:EXAMPLES_MAX]}" if keys and name != "recovered" else ""
            parts.append(f"{name}={len(keys)}{examples}")
        return " ".join(parts)


def compare(ledger: Ledger, rows: Iterable[StoredRow]) -> Report:
    """Compare a ledger with `rows`, which are all stored events of its devices."""
    rows = list(rows)
    ok, attempted = ledger.ok, ledger.attempted
    counts = Counter((row.device_id, row.event_id) for row in rows)
    return Report(
        attempted=len(attempted),
        ok=len(ok),
        rows=len(rows),
        lost=frozenset(ok - counts.keys()),
        duplicated=frozenset(key for key, count in counts.items() if count > 1),
        unexpected=frozenset(counts.keys() - attempted.keys()),
        wrong=frozenset(
            (row.device_id, row.event_id)
            for row in rows
            if attempted.get((row.device_id, row.event_id), row.value) != row.value
        ),
        recovered=frozenset((attempted.keys() & counts.keys()) - ok),
    )
