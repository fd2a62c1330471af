"""What both clients share: options, topics, the words of a status, and a battery that is only simulated."""

import argparse
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import uniform
from typing import Any
from urllib.parse import SplitResult, urlsplit
from uuid import uuid4

RESEND_S = 30  # A message without a receipt for this long is sent again.
RECONNECT_S = 3


@dataclass(frozen=True)
class Device:
    device_id: str
    broker: SplitResult
    secret: str | None
    outbox: Path
    interval_s: float
    count: int | None

    @property
    def address(self) -> tuple[str, int]:
        usual = 8883 if self.broker.scheme == "mqtts" else 1883
        return self.broker.hostname or "127.0.0.1", self.broker.port or usual

    @property
    def login(self) -> dict[str, Any]:
        """Nothing where authentication is off."""
        return {"username": self.device_id, "password": self.secret} if self.secret else {}

    def topic(self, kind: str) -> str:
        return f"devices/{self.device_id}/{kind}"


def from_command_line() -> Device:
    parser = argparse.ArgumentParser(
        description="A battery that keeps its events until their receipts."
    )
    parser.add_argument("device_id")
    parser.add_argument(
        "--mqtt", default="mqtt://127.0.0.1:1883", help="mqtt://HOST:PORT or mqtts://…"
    )
    parser.add_argument("--outbox", type=Path, default=Path("outbox.db"))
    parser.add_argument("--interval", type=float, default=10, help="seconds between two events")
    parser.add_argument(
        "--count", type=int, help="end after so many events, once all have receipts"
    )
    given = parser.parse_args()
    return Device(
        given.device_id,
        urlsplit(given.mqtt),
        os.environ.get("DEVICE_SECRET"),
        given.outbox,
        given.interval,
        given.count,
    )


def statuses() -> tuple[dict[str, Any], dict[str, Any]]:
    """Birth and last will of one connection: Voltwire ignores the late will of an older session."""
    session = uuid4().hex
    return (
        {"state": "online", "receipts": True, "session": session},
        {"state": "offline", "session": session},
    )


def measure() -> tuple[str, dict[str, float]]:
    """Read your sensors here."""
    metrics = {"soc_percent": round(uniform(40, 60), 1), "voltage_v": round(uniform(380, 390), 1)}
    return datetime.now(UTC).isoformat(), metrics
