"""Which MQTT version a session uses on its next connection. Pure."""

from aiomqtt import ProtocolVersion


class VersionChoice:
    """MQTT 5, or 3.1.1 for a broker that knows no other.

    A broker that refuses 5 in its CONNACK gets 3.1.1 from then on. A broker that sends no CONNACK may
    be too old or may only have a fault:

    1. No CONNACK with 5: try 3.1.1.
    2. CONNACK with 3.1.1: try 5 once more. No CONNACK: start again.
    3. No CONNACK with 5 again: use 3.1.1 from then on.
    """

    def __init__(self, *, only_v311: bool = False) -> None:
        self._final = ProtocolVersion.V311 if only_v311 else None
        self._silent_on_5 = self._accepted_on_311 = False

    @property
    def next(self) -> ProtocolVersion:
        if self._final is not None:
            return self._final
        fall_back = self._silent_on_5 and not self._accepted_on_311
        return ProtocolVersion.V311 if fall_back else ProtocolVersion.V5

    def accepted(self) -> bool:
        """The CONNACK accepted the connection. False: leave it, to try 5 once more."""
        if self._final is None and self.next is ProtocolVersion.V311:
            self._accepted_on_311 = True
            return False
        self._final = self.next
        return True

    def silent(self) -> None:
        """No CONNACK came."""
        if self._final is None and self._accepted_on_311:
            self._final = ProtocolVersion.V311
        self._silent_on_5 = not self._silent_on_5

    def refused(self) -> None:
        """The CONNACK refused MQTT 5."""
        self._final = ProtocolVersion.V311
