"""How a connection refuses what a client sends, so that the refusal arrives before the connection ends.

These are the rare ways of a request; api/serve/http_protocol.py has the ordinary one.
"""

import asyncio
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.serve.body_budget import BodyBudget, HeldBody
from api.serve.deadline import Deadline
from api.serve.request_cycle import refusal

HEAD_BYTES_MAX, HEAD_S_MAX = 64 * 1024, 10.0
TARGET_BYTES_MAX = HEAD_BYTES_MAX - 1024  # Beside it a head needs a few header lines.
BODY_S_MAX, BODY_BYTES_PER_S_MIN = 30.0, 64 * 1024
DISCARD_BYTES_MAX, DISCARD_S_MAX = 32 * 1024 * 1024, 30.0


class Phase(Enum):
    HEAD = auto()  # Between requests, too.
    BODY = auto()
    RESPONSE = auto()  # The request is complete, its response is not.
    DISCARD = auto()  # The response is sent; what still comes is thrown away.


# Python 3.11 takes 150 ns to look up a member of an enumeration, which a request does some twenty times.
HEAD, BODY, RESPONSE, DISCARD = Phase


class RefusingProtocol(HttpToolsProtocol):
    """The state of a connection, its limits, and its ends."""

    def __init__(self, *arguments: Any, budget: BodyBudget, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._held = HeldBody(budget)
        self._phase = HEAD
        self._head_bytes = 0
        self._body_left: int | None = 0  # None: in chunks, so it is not known
        self._body_received, self._body_began_at = 0, 0.0
        self._discarded_bytes = 0
        self._ahead = b""
        self._deadline = Deadline(self.loop)
        self._task: asyncio.Task[None] | None = None
        self._socket: asyncio.Transport

    def _wait_for_a_head(self) -> None:
        self._deadline.set(HEAD_S_MAX, self._head_is_late)

    def _wait_for_the_rest(self) -> None:
        """Set the deadline of a head or body that is not complete yet, unless it is running."""
        if self._phase is HEAD and self._head_bytes:
            if self._deadline.late != self._head_is_late:
                self._wait_for_a_head()
        elif self._phase is BODY and self._deadline.late is None:
            self._body_began_at = self.loop.time()
            self._deadline.set(BODY_S_MAX, self._body_is_late)

    def _head_is_late(self) -> None:
        if self._head_bytes == 0:
            self._socket.close()  # Nothing was asked, so nothing is answered.
        else:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The head of a request must arrive within {HEAD_S_MAX:.0f} s.",
            )

    def _body_is_late(self) -> None:
        """What arrived has earned the body more time; so has every second in which we did not read."""
        earned_s = BODY_S_MAX + self._body_received / BODY_BYTES_PER_S_MIN
        left_s = self._body_began_at + earned_s - self.loop.time()
        if self.flow.read_paused:
            left_s = max(left_s, 1.0)
        if left_s > 0:
            self._deadline.set(left_s, self._body_is_late)
        else:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The body of a request must arrive within {BODY_S_MAX:.0f} s and one more for each 64 KiB.",
            )

    def _refuse_head(self) -> None:
        if len(self.url) > TARGET_BYTES_MAX:
            status, what = HTTPStatus.REQUEST_URI_TOO_LONG, "The target"
        else:
            status, what = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head"
        self._refuse(status, f"{what} of a request must fit into {HEAD_BYTES_MAX // 1024} KiB.")

    def _refuse(self, status: HTTPStatus, detail: str, *headers: tuple[bytes, bytes]) -> None:
        """Answer in place of the application, and end the connection."""
        if self._phase is BODY:
            begun = self.cycle.response_started
            self.cycle.disconnected = True
            self._abandon()
            if begun:  # No second response fits behind the first.
                self._socket.close()
                return
        else:
            self._body_left = None
        self._socket.write(refusal(status, detail, *headers))
        self._begin_to_discard()

    def _begin_to_discard(self) -> None:
        """Say that nothing follows, and read on, so that the response is not lost in a reset."""
        self._deadline.clear()
        self._held.give_back()
        self._ahead = b""
        if self._socket.is_closing():
            return
        self._phase = DISCARD
        self._deadline.set(DISCARD_S_MAX, self._socket.close)
        self._socket.write_eof()
        self.flow.resume_reading()

    def _discard(self, count: int) -> None:
        if self._body_left is not None:
            self._body_left -= count
        done = self._body_left is not None and self._body_left <= 0
        if self._throw_away(count) and done:
            self._socket.close()

    def _throw_away(self, count: int) -> bool:
        """Count bytes that nobody needs. False: they are too many, so the connection ends."""
        self._discarded_bytes += count
        if self._discarded_bytes <= DISCARD_BYTES_MAX:
            return True
        self._socket.close()
        return False

    def _abandon(self) -> None:
        """End the work on a response that nobody waits for any more."""
        self._held.give_back()
        if self._task is not None and not self.cycle.response_complete:
            self._task.cancel()

    def close_gently(self) -> None:
        """Close so that the response arrives: with bytes unread, the kernel would reset the connection."""
        if self._socket.is_closing() or self._phase is DISCARD:
            return
        if self._phase is BODY:
            self._begin_to_discard()
        elif self._ahead:
            self._body_left = None
            self._begin_to_discard()
        else:
            self._socket.close()

    @property
    def discarding(self) -> bool:
        return self._phase is DISCARD
