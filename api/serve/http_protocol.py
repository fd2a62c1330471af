"""HTTP/1 as every port of ours speaks it: uvicorn's protocol, with limits on what a client may do.

head       at most 64 KiB within 10 s, else 431 (414 for the target alone) or 408
body       30 s and one more for each 64 KiB, else 408; what the process has no room for is refused with 503
requests   one at a time on a connection: what a client sends ahead waits unread
refusals   arrive: the rest of a body is read and thrown away before the connection ends (RFC 9112, 9.6)
leaving    a client that leaves ends the work on its request
HTTP/1.0   an answer of unknown length ends with the connection, never in chunks (RFC 9112, 6.1)
"""

import asyncio
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.serve.body_budget import SMALL_BODY_BYTES, BodyBudget, HeldBody
from api.serve.deadline import Deadline
from api.serve.request_cycle import GentleTransport, OldRequestCycle, RequestCycle, refusal

HEAD_BYTES_MAX, HEAD_S_MAX = 64 * 1024, 10.0
TARGET_BYTES_MAX = HEAD_BYTES_MAX - 1024  # Beside it a head needs a few header lines.
BODY_S_MAX, BODY_BYTES_PER_S_MIN = 30.0, 64 * 1024
DISCARD_BYTES_MAX, DISCARD_S_MAX = 32 * 1024 * 1024, 30.0
END_OF_HEAD = b"\r\n\r\n"


class _Phase(Enum):
    HEAD = auto()  # Between requests, too.
    BODY = auto()
    ANSWER = auto()  # The request is complete, its answer is not.
    DISCARD = auto()  # The answer is sent; what still comes is thrown away.


# Python 3.11 takes 150 ns to look up a member of an enumeration, which a request does some twenty times.
_HEAD, _BODY, _ANSWER, _DISCARD = _Phase


class HttpProtocol(HttpToolsProtocol):
    """One connection. Give uvicorn a partial of it, with the `budget` of the process."""

    def __init__(self, *arguments: Any, budget: BodyBudget, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._held = HeldBody(budget)
        self._phase = _HEAD
        self._head_bytes, self._head_tail = 0, b""
        self._body_left: int | None = 0  # None: in chunks, so it is not known
        self._body_received, self._body_began_at = 0, 0.0
        self._discarded_bytes = 0
        self._ahead = b""
        self._deadline = Deadline(self.loop)
        self._task: asyncio.Task[None] | None = None
        self._socket: asyncio.Transport

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)
        super().connection_made(cast("asyncio.Transport", GentleTransport(self._socket, self)))
        self._deadline.set(HEAD_S_MAX, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.close()
        self._ahead = b""
        super().connection_lost(exc)
        self._abandon()

    def data_received(self, data: bytes) -> None:
        if self._phase is _ANSWER:
            self._ahead += data
            self.flow.pause_reading()
        else:
            self._take(data)

    # From bytes to requests.

    def _take(self, data: bytes) -> None:
        """Feed the parser no further than to the end of a request."""
        while data and self.parser is not None and not self._socket.is_closing():
            if self._phase is _HEAD:
                data = self._take_head(data)
            elif self._phase is _BODY:
                data = self._take_body(data)
            elif self._phase is _DISCARD:
                self._discard(len(data))
                return
            else:
                self._ahead = data
                self.flow.pause_reading()
                return
        if self._phase is not _ANSWER:
            self._wait_for_the_rest()

    def _take_head(self, data: bytes) -> bytes:
        """Feed the head; returns what comes after it."""
        tail = self._head_tail
        seen = tail + data if tail else data
        found = seen.find(END_OF_HEAD, 0, len(tail) + HEAD_BYTES_MAX + 1)
        end = len(data) if found < 0 else found + len(END_OF_HEAD) - len(tail)
        end = min(end, HEAD_BYTES_MAX + 1 - self._head_bytes)
        self._head_bytes += end
        self._head_tail = seen[-3:]
        if not self._parse(data[:end]):
            return b""
        if self._phase is _HEAD and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse_head()
            return b""
        return data[end:]

    def _wait_for_the_rest(self) -> None:
        """Set the deadline of a head or body that is not complete yet, unless it is running."""
        if self._phase is _HEAD and self._head_bytes:
            if self._deadline.late != self._head_is_late:
                self._deadline.set(HEAD_S_MAX, self._head_is_late)
        elif self._phase is _BODY and self._deadline.late is None:
            self._body_began_at = self.loop.time()
            self._deadline.set(BODY_S_MAX, self._body_is_late)

    def _take_body(self, data: bytes) -> bytes:
        """Feed the body as far as it goes; returns what comes after it."""
        end = len(data) if self._body_left is None else min(len(data), self._body_left)
        if self._body_left is not None:
            self._body_left -= end
        if self.cycle.response_complete:
            self._discarded_bytes += end
            if self._discarded_bytes > DISCARD_BYTES_MAX:
                self._socket.close()
                return b""
        if not self._parse(data[:end]):
            return b""
        self._body_received += end
        return data[end:]

    def _parse(self, piece: bytes) -> bool:
        """Whether the parser took it."""
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # It asks for an upgrade that we do not make, and what follows is not HTTP.
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST, "This is not a valid HTTP/1.1 request.")
            return False
        return True

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._phase is _HEAD:
            super().on_message_begin()
        elif self.cycle is not None:  # Sent in one piece with the end of a chunked body.
            self.cycle.keep_alive = False

    def on_url(self, url: bytes) -> None:
        if self._phase is _HEAD:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """In place of uvicorn's, as one call for each of many headers."""
        if self._phase is not _HEAD:
            return  # A trailer of a chunked body, or a request behind it that is not answered.
        name = name.lower()
        self.headers.append((name, value))
        if name == b"content-length":
            if value.isdigit():
                self._body_left = int(value)
        elif name == b"transfer-encoding":
            self._body_left = None
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        if self._phase is not _HEAD:
            return
        self._deadline.clear()
        self._phase = _BODY
        self._head_bytes, self._head_tail = 0, b""
        self._body_received = 0
        self._held.large = self._body_left is not None and self._body_left > SMALL_BODY_BYTES
        self._describe()
        cycle = OldRequestCycle if self.scope["http_version"] == "1.0" else RequestCycle
        self.cycle = cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self.scope["http_version"] != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._start_asgi_task(self.cycle, self.app)

    def on_body(self, body: bytes) -> None:
        if self._phase is not _BODY or self.cycle.response_complete:
            return
        if self._held.take(len(body)):
            super().on_body(body)
        else:
            self._refuse(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The server has no room for more request bodies (BODIES_BYTES_MAX): send this again later.",
                (b"retry-after", b"1"),
            )

    def on_message_complete(self) -> None:
        if self._phase is not _BODY:
            return
        self._deadline.clear()
        if self.cycle.response_complete:  # It was answered before its end: the connection stays.
            self._wait_for_the_next_request()
        else:
            self._phase = _ANSWER
            super().on_message_complete()

    # Answers.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._task = self.loop.create_task(cycle.run_asgi(app))
        self._task.add_done_callback(self.tasks.discard)
        self.tasks.add(self._task)

    def on_response_complete(self) -> None:
        """In place of uvicorn's, whose deadline of an idle connection is a timer for each request."""
        self._held.give_back()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._phase is _ANSWER:
            self._wait_for_the_next_request()
            if self._ahead:
                self.loop.call_soon(self._take_ahead)

    def close_gently(self) -> None:
        """Close so that the answer arrives: with bytes unread, the kernel would reset the connection."""
        if self._socket.is_closing() or self._phase is _DISCARD:
            return
        if self._phase is _BODY:
            self._begin_to_discard()
        elif self._ahead:
            self._body_left = None
            self._begin_to_discard()
        else:
            self._socket.close()

    @property
    def discarding(self) -> bool:
        return self._phase is _DISCARD

    def _unsupported_upgrade_warning(self) -> None:
        """A client may offer an upgrade; going on without it is no fault (RFC 9110, 7.8)."""

    def _take_ahead(self) -> None:
        if self._phase is _HEAD and self._ahead:
            data, self._ahead = self._ahead, b""
            self._take(data)

    def _wait_for_the_next_request(self) -> None:
        self._deadline.set(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        self._phase = _HEAD
        self._body_left, self._discarded_bytes = 0, 0

    def _describe(self) -> None:
        """The scope of the request, as uvicorn fills it."""
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = self.parser.get_http_version()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        self.scope["path"] = unquote(path) if "%" in path else path
        self.scope["raw_path"] = url.path
        self.scope["query_string"] = url.query or b""

    # Limits.

    def _head_is_late(self) -> None:
        if self._head_bytes == 0:
            self._socket.close()  # Nothing was asked, so there is nothing to answer.
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
        if self._phase is _BODY:
            begun = self.cycle.response_started
            self.cycle.disconnected = True
            self._abandon()
            if begun:  # No second answer fits behind the first.
                self._socket.close()
                return
        else:
            self._body_left = None
        self._socket.write(refusal(status, detail, *headers))
        self._begin_to_discard()

    def _begin_to_discard(self) -> None:
        """Say that nothing follows, and read on, so that the answer is not lost in a reset."""
        self._deadline.clear()
        self._held.give_back()
        self._ahead = b""
        if self._socket.is_closing():
            return
        self._phase = _DISCARD
        self._deadline.set(DISCARD_S_MAX, self._socket.close)
        self._socket.write_eof()
        self.flow.resume_reading()

    def _discard(self, count: int) -> None:
        self._discarded_bytes += count
        if self._body_left is not None:
            self._body_left -= count
        done = self._body_left is not None and self._body_left <= 0
        if done or self._discarded_bytes > DISCARD_BYTES_MAX:
            self._socket.close()

    def _abandon(self) -> None:
        """End the work on an answer that nobody waits for any more."""
        self._held.give_back()
        if self._task is not None and not self.cycle.response_complete:
            self._task.cancel()
