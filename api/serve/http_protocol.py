"""HTTP/1 as every port of ours speaks it: uvicorn's protocol, with limits on what a client may do.

head       at most 64 KiB within 10 s, else 431 (414 for the target alone) or 408
body       30 s and one more for each 64 KiB, else 408; what the process has no room for is refused with 503
requests   one at a time on a connection: what a client sends ahead waits unread
refusals   arrive: the rest of a body is read and thrown away before the connection ends (RFC 9112, 9.6)
leaving    a client that leaves ends the work on its request
HTTP/1.0   an answer of unknown length ends with the connection, never in chunks (RFC 9112, 6.1)
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.serve.body_budget import BodyBudget, HeldBody
from api.serve.request_cycle import GentleTransport, RequestCycle, refusal

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


class HttpProtocol(HttpToolsProtocol):
    """One connection. Give uvicorn a partial of it, with the `budget` of the process."""

    def __init__(self, *arguments: Any, budget: BodyBudget, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._held = HeldBody(budget)
        self._phase = _Phase.HEAD
        self._head_bytes, self._head_tail = 0, b""
        self._body_left: int | None = 0  # None: in chunks, so it is not known
        self._body_received, self._body_began_at = 0, 0.0
        self._discarded_bytes = 0
        self._ahead = b""
        self._deadline: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._socket: asyncio.Transport

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)
        super().connection_made(cast("asyncio.Transport", GentleTransport(self._socket, self)))
        self._set_deadline(HEAD_S_MAX, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        self._unset_keepalive_if_required()
        self._ahead = b""
        super().connection_lost(exc)
        self._abandon()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._phase is _Phase.ANSWER:
            self._ahead += data
            self.flow.pause_reading()
        else:
            self._take(data)

    # From bytes to requests.

    def _take(self, data: bytes) -> None:
        """Feed the parser no further than to the end of a request."""
        while data and self.parser is not None and not self._socket.is_closing():
            if self._phase is _Phase.HEAD:
                data = self._take_head(data)
            elif self._phase is _Phase.BODY:
                data = self._take_body(data)
            elif self._phase is _Phase.DISCARD:
                self._discard(len(data))
                return
            else:
                self._ahead = data
                self.flow.pause_reading()
                return

    def _take_head(self, data: bytes) -> bytes:
        """Feed the head; returns what comes after it."""
        tail = len(self._head_tail)
        found = (self._head_tail + data[: HEAD_BYTES_MAX + 1]).find(END_OF_HEAD)
        end = len(data) if found < 0 else found + len(END_OF_HEAD) - tail
        end = min(end, HEAD_BYTES_MAX + 1 - self._head_bytes)
        piece, rest = data[:end], data[end:]
        self._head_bytes += end
        self._head_tail = (self._head_tail + piece)[-3:]
        if not self._parse(piece):
            return b""
        if self._phase is _Phase.BODY:
            self._body_began_at, self._body_received = self.loop.time(), 0
            self._set_deadline(BODY_S_MAX, self._body_is_late)
        if self._phase is not _Phase.HEAD:
            return rest
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse_head()
            return b""
        if self._deadline is None:
            self._set_deadline(HEAD_S_MAX, self._head_is_late)
        return rest

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
        if self._phase is _Phase.HEAD:
            super().on_message_begin()
        elif self.cycle is not None:  # Sent in one piece with the end of a chunked body.
            self.cycle.keep_alive = False

    def on_url(self, url: bytes) -> None:
        if self._phase is _Phase.HEAD:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not _Phase.HEAD:
            return  # A trailer of a chunked body, or a request behind it that is not answered.
        super().on_header(name, value)
        if name.lower() == b"content-length" and value.isdigit():
            self._body_left = int(value)
        elif name.lower() == b"transfer-encoding":
            self._body_left = None

    def on_headers_complete(self) -> None:
        if self._phase is not _Phase.HEAD:
            return
        self._clear_deadline()
        self._phase = _Phase.BODY
        self._head_bytes, self._head_tail = 0, b""
        self._held.expect(self._body_left)
        self._describe()
        self.cycle = RequestCycle(
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
        if self._phase is not _Phase.BODY or self.cycle.response_complete:
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
        if self._phase is not _Phase.BODY:
            return
        self._clear_deadline()
        if self.cycle.response_complete:  # It was answered before its end: the connection stays.
            self._next_head()
            self._wait_for_the_next_request()
        else:
            self._phase = _Phase.ANSWER
            super().on_message_complete()

    # Answers.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._task = self.loop.create_task(cycle.run_asgi(app))
        self._task.add_done_callback(self.tasks.discard)
        self.tasks.add(self._task)

    def on_response_complete(self) -> None:
        self._held.give_back()
        super().on_response_complete()
        if self._phase is _Phase.ANSWER:
            self._next_head()
            if self._ahead and not self._socket.is_closing():
                self.loop.call_soon(self._take_ahead)

    def close_gently(self) -> None:
        """Close so that the answer arrives: with bytes unread, the kernel would reset the connection."""
        if self._socket.is_closing() or self._phase is _Phase.DISCARD:
            return
        if self._phase is _Phase.BODY:
            self._begin_to_discard()
        elif self._ahead:
            self._body_left = None
            self._begin_to_discard()
        else:
            self._socket.close()

    @property
    def discarding(self) -> bool:
        return self._phase is _Phase.DISCARD

    def _unsupported_upgrade_warning(self) -> None:
        """A client may offer an upgrade; going on without it is no fault (RFC 9110, 7.8)."""

    def _take_ahead(self) -> None:
        if self._phase is _Phase.HEAD and self._ahead:
            data, self._ahead = self._ahead, b""
            self._unset_keepalive_if_required()
            self._take(data)

    def _wait_for_the_next_request(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _next_head(self) -> None:
        self._phase = _Phase.HEAD
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

    def _set_deadline(self, within_s: float, late: Callable[[], None]) -> None:
        self._deadline = self.loop.call_later(within_s, late)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

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
            self._set_deadline(left_s, self._body_is_late)
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
        if self._phase is _Phase.BODY:
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
        self._clear_deadline()
        self._unset_keepalive_if_required()
        self._held.give_back()
        self._ahead = b""
        if self._socket.is_closing():
            return
        self._phase = _Phase.DISCARD
        self._set_deadline(DISCARD_S_MAX, self._socket.close)
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
