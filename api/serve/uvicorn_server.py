"""uvicorn as a part of our process: our signals, our sockets, an end within seconds."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from litestar.types import ASGIApp

from api.serve.body_budget import BodyBudget
from api.serve.http_protocol import HttpProtocol

KEEP_ALIVE_S = 75
GRACE_S = 3  # For answers under way when the server is told to stop.


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process, which tells every role through one event."""
        yield


async def serve(
    app: ASGIApp, listener: socket.socket, stop: asyncio.Event, bodies_bytes_max: int
) -> None:
    """Answer requests until `stop` is set; of bodies the process holds `bodies_bytes_max` at a time."""
    server = _Server(
        uvicorn.Config(
            cast("Any", app),  # The same protocol, told by two libraries.
            http=cast("Any", partial(HttpProtocol, budget=BodyBudget(bodies_bytes_max))),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # Nobody asks for the client's address or scheme.
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve(sockets=[listener]))
        stopped = group.create_task(stop.wait())
        await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        stopped.cancel()
