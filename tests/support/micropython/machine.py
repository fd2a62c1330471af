"""Stands in for a board: RTC memory is a file, deep sleep ends the program."""

import sys
from pathlib import Path


class Pin:
    def __init__(self, number: int) -> None:
        self.number = number


class ADC:
    def __init__(self, pin: Pin) -> None:
        self.pin = pin

    def read_uv(self) -> int:
        return 1_900_000


class RTC:
    def memory(self, content: bytes | None = None) -> bytes:
        file = Path("rtc_memory")
        if content is not None:
            file.write_bytes(content)
        return file.read_bytes() if file.exists() else b""


def deepsleep(milliseconds: int) -> None:
    sys.stdout.write(f"sleeps {milliseconds}\n")
    sys.exit(0)
