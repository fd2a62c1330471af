"""HTTP/1 as every port of ours speaks it: uvicorn's protocol, with limits on what a client may do.

head       at most 64 KiB within 10 s, else 431 (414 for the target alone) or 408
body       30 s and one more for each 64 KiB, else 408; what the process has no room for is refused with 503.
           In chunks, of which thousands may come at once, it gives other connections their turn
requests   one at a time on a connection: what a client sends ahead waits unread
refusals   arrive: the rest of a body is read and thrown away before the connection ends (RFC 9112, 9.6)
leaving    a client that leaves ends the work on its request
HTTP/1.0   a response of unknown length ends with the connection, never in chunks (RFC 9112, 6.1)
"""

import asyncio
from functools import lru_cache
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api.serve.body_budget import SMALL_BODY_BYTES, BodyBudget
from api.serve.refusals import (
    BODY,
    DISCARD,
    HEAD,
    HEAD_BYTES_MAX,
    RESPONSE,
    RefusingProtocol,
)
from api.serve.request_cycle import GentleTransport, OldRequestCycle, RequestCycle

TARGETS_KEPT, TARGET_BYTES_KEPT = 64, 256  # Parsed ones: every post has the same.
END_OF_HEAD = b"\r\n\r\n"
CHUNKED_BYTES_AT_A_TIME = 8 * 1024  # Chunks of one byte take the parser 15 ms.


def _target(url: bytes) -> tuple[str, bytes, bytes]:
    """The path, decoded and as it was sent, and the query. That of `http://host` is `/` (RFC 9112, 3.2.2)."""
    parsed = httptools.parse_url(url)
    raw_path = parsed.path or b"/"
    path = raw_path.decode("ascii")
    return unquote(path) if "%" in path else path, raw_path, parsed.query or b""


_kept_target = lru_cache(TARGETS_KEPT)(_target)


class HttpProtocol(RefusingProtocol):
    """One connection. Give uvicorn a partial of it, with the `budget` of the process."""

    def __init__(self, *arguments: Any, budget: BodyBudget, **options: Any) -> None:
        super().__init__(*arguments, budget=budget, **options)
        self._head_tail = b""

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)
        super().connection_made(cast("asyncio.Transport", GentleTransport(self._socket, self)))
        self._wait_for_a_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.close()
        self._ahead = b""
        super().connection_lost(exc)
        self._abandon()

    def data_received(self, data: bytes) -> None:
        if self._phase is RESPONSE or self._ahead:
            self._ahead += data
            self.flow.pause_reading()
        else:
            self._take(data)

    # From bytes to requests.

    def _take(self, data: bytes) -> None:
        """Feed the parser no further than to the end of a request."""
        while data and self.parser is not None and not self._socket.is_closing():
            if self._phase is HEAD:
                data = self._take_head(data)
            elif self._phase is BODY:
                data = self._take_body(data)
                if data and self._phase is BODY:
                    self._ahead = data
                    self.flow.pause_reading()
                    self.loop.call_soon(self._take_ahead)
                    break
            elif self._phase is DISCARD:
                self._discard(len(data))
                return
            else:
                self._ahead = data
                self.flow.pause_reading()
                return
        if self._phase is not RESPONSE:
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
        if self._phase is HEAD and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse_head()
            return b""
        return data[end:]

    def _take_body(self, data: bytes) -> bytes:
        """Feed the body as far as it goes; returns what comes after it."""
        end = min(
            len(data), CHUNKED_BYTES_AT_A_TIME if self._body_left is None else self._body_left
        )
        if self._body_left is not None:
            self._body_left -= end
        if self.cycle.response_complete and not self._throw_away(end):
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
            if self._phase is RESPONSE:
                # The request before it is whole, and gets its own response.
                self.cycle.keep_alive = False
                self._ahead = piece
            else:
                self._refuse(HTTPStatus.BAD_REQUEST, "This is not a valid HTTP/1.1 request.")
            return False
        return True

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._phase is HEAD:
            super().on_message_begin()
        elif self.cycle is not None:  # Sent in one piece with the end of a chunked body.
            self.cycle.keep_alive = False

    def on_url(self, url: bytes) -> None:
        if self._phase is HEAD:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """In place of uvicorn's, as one call for each of many headers."""
        if self._phase is not HEAD:
            return  # A trailer of a chunked body, or a request behind it that is not answered.
        name = name.lower()
        self.headers.append((name, value))
        if name == b"content-length":
            if value.isdigit():
                self._body_left = int(value)
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise ValueError(
                    "A transfer coding that this server does not know (RFC 9112, 6.1)."
                )
            self._body_left = None
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        if self._phase is not HEAD:
            return
        self._describe()  # An invalid target raises here, before there is a request.
        self._deadline.clear()
        self._phase = BODY
        self._head_bytes, self._head_tail = 0, b""
        self._body_received = 0
        self._held.large = self._body_left is not None and self._body_left > SMALL_BODY_BYTES
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
        if self._phase is not BODY or self.cycle.response_complete:
            return
        if not self._held.take(len(body)):
            self._refuse(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The server has no room for more request bodies (BODIES_BYTES_MAX): send this again later.",
                (b"retry-after", b"1"),
            )
            return
        self.cycle.body += body
        if len(self.cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._phase is not BODY:
            return
        self._deadline.clear()
        if self.cycle.response_complete:  # It was answered before its end: the connection stays.
            self._wait_for_the_next_request()
        else:
            self._phase = RESPONSE
            self.cycle.more_body = False
            self.cycle.message_event.set()

    # Responses.

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
        if self._phase is RESPONSE:
            self._wait_for_the_next_request()
            if self._ahead:
                self.loop.call_soon(self._take_ahead)

    def _unsupported_upgrade_warning(self) -> None:
        """A client may offer an upgrade; going on without it is no fault (RFC 9110, 7.8)."""

    def _take_ahead(self) -> None:
        if self._ahead and (self._phase is HEAD or self._phase is BODY):
            data, self._ahead = self._ahead, b""
            self._take(data)
            if not self._ahead and not self._socket.is_closing():
                self._read_on()

    def _read_on(self) -> None:
        """Unless the application has enough of the body to read for now."""
        if self._phase is HEAD or (
            self._phase is BODY
            and (self.cycle.response_complete or len(self.cycle.body) <= HIGH_WATER_LIMIT)
        ):
            self.flow.resume_reading()

    def _wait_for_the_next_request(self) -> None:
        self._deadline.set(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        self._phase = HEAD
        self._body_left, self._discarded_bytes = 0, 0

    def _describe(self) -> None:
        """The scope of the request, as uvicorn fills it."""
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = self.parser.get_http_version()
        target = _target(self.url) if len(self.url) > TARGET_BYTES_KEPT else _kept_target(self.url)
        self.scope["path"], self.scope["raw_path"], self.scope["query_string"] = target
