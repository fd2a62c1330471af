"""Events that wait for their receipt, in a file that survives a power cut."""

import json
import sqlite3
from pathlib import Path
from typing import Any
from uuid import uuid4

Event = dict[str, Any]


class Outbox:
    def __init__(self, path: Path) -> None:
        self._file = sqlite3.connect(path, isolation_level=None)  # Each statement is a commit.
        self._file.execute(
            "create table if not exists event"
            " (seq integer primary key autoincrement, event_id text unique, body text)"
        )

    def add(self, timestamp: str, metrics: dict[str, float]) -> None:
        """`seq` grows without a gap, also across restarts, so Voltwire can tell what is missing."""
        body = json.dumps({"timestamp": timestamp, "metrics": metrics})
        self._file.execute("insert into event (event_id, body) values (?, ?)", (uuid4().hex, body))

    def oldest(self, limit: int = 100) -> list[Event]:
        rows = self._file.execute("select * from event order by seq limit ?", (limit,))
        return [
            {"event_id": event_id, "seq": seq, **json.loads(body)} for seq, event_id, body in rows
        ]

    def settle(self, receipt: list[dict[str, Any]]) -> None:
        """Stored and duplicate events are safe. A rejected one would be rejected again: it goes, too."""
        for item in receipt:
            if item["status"] == "rejected":
                print(f"rejected: {item}")
            self._file.execute("delete from event where event_id = ?", (item["event_id"],))

    def __len__(self) -> int:
        return int(self._file.execute("select count(*) from event").fetchone()[0])
