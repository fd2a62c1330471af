"""What is reserved for Voltwire's own sessions: their client ids, and the topics that only they write.

Our sessions prove themselves with a password made at start. Every other client may connect under any other
client id, with or without a password, because authentication is off.
"""

import hmac
import re

from broker.embedded.packets import Connect

_match_outgoing = re.compile(r"alerts/.*|presence/.*|devices/[^/]*/receipts(/.*)?", re.DOTALL)


class Rights:
    """`instance` is the setting INSTANCE. Without a `password` nobody can prove to be one of ours."""

    def __init__(self, instance: str, password: str | None) -> None:
        self._password = password.encode() if password else None
        name = re.escape(instance)
        self._match_client_id = re.compile(rf"{name}-(ingest(-\d+)?|delivery)").fullmatch
        self._match_canary = re.compile(rf"voltwire/{name}/canary(/.*)?", re.DOTALL).fullmatch

    def is_ours(self, connect: Connect) -> bool:
        return (
            self._password is not None
            and connect.password is not None
            and hmac.compare_digest(connect.password, self._password)
        )

    def is_reserved(self, client_id: str) -> bool:
        return self._match_client_id(client_id) is not None

    def only_ours_write(self, topic: str) -> bool:
        return bool(_match_outgoing.fullmatch(topic) or self._match_canary(topic))
