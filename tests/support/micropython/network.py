"""Stands in for the network of a board, which is there at once."""

STA_IF = 0


class WLAN:
    def __init__(self, interface: int) -> None:
        self.interface = interface

    def active(self, on: bool) -> None:  # noqa: FBT001  # The board's signature.
        self.on = on

    def connect(self, name: str, password: str) -> None:
        self.network = (name, password)

    def isconnected(self) -> bool:
        return self.on
