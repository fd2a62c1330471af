"""Where channels deliver in tests: a web server that checks signatures, and a mail server."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

from aiosmtpd.controller import Controller
from standardwebhooks import Webhook

from tests.support.processes.services import free_port

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WITHIN_S = 60


class WebhookReceiver:
    """Answers with the statuses given, then 204; `received` holds (webhook-id, verified body)."""

    def __init__(self) -> None:
        self.received: Queue[tuple[str, Any]] = Queue()
        self.statuses: list[int] = []
        self.location: str | None = None
        self.before_response: Callable[[], object] = lambda: None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def next(self) -> tuple[str, Any]:
        return self.received.get(timeout=WITHIN_S)

    def take(self, headers: Mapping[str, str], body: bytes) -> int:
        verified = Webhook(SECRET).verify(body, dict(headers))
        status = self.statuses.pop(0) if self.statuses else 204
        self.received.put((headers["webhook-id"], verified))
        self.before_response()
        return status


@contextmanager
def webhook_receiver() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(receiver.take(dict(self.headers.items()), body))
            if receiver.location is not None:
                self.send_header("location", receiver.location)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Tests are silent."""

    with http_server(Handler) as receiver.port:
        yield receiver


@contextmanager
def http_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """The port on which it listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class MailReceiver:
    """`received` holds the messages; the first `refusals` are refused for now."""

    def __init__(self) -> None:
        self.received: Queue[Message] = Queue()
        self.refusals = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"mailto://127.0.0.1:{self.port}?from=voltwire@example.org&to=you@example.org&mode=insecure"

    def next(self) -> Message:
        return self.received.get(timeout=WITHIN_S)

    async def handle_DATA(  # noqa: N802  # The name that aiosmtpd calls.
        self, _server: Any, _session: Any, envelope: Any
    ) -> str:
        if self.refusals:
            self.refusals -= 1
            return "451 Try again later"
        self.received.put(message_from_bytes(envelope.content))
        return "250 Taken"


@contextmanager
def mail_receiver() -> Iterator[MailReceiver]:
    receiver = MailReceiver()
    receiver.port = free_port()
    controller = Controller(receiver, hostname="127.0.0.1", port=receiver.port)
    controller.start()
    try:
        yield receiver
    finally:
        controller.stop()
