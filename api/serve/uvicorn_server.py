"""uvicorn inside a Voltwire process: with its signals and sockets, stopping within seconds."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from litestar.types import ASGIApp

KEEP_ALIVE_S = 75
GRACE_S = 3  # For responses in progress when the server stops.


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The process handles signals and stops every role through one event."""
        yield


async def serve(app: ASGIApp, listener: socket.socket, stop: asyncio.Event) -> None:
    """Answer requests until `stop` is set."""
    server = _Server(
        uvicorn.Config(
            cast("Any", app),  # The two libraries type ASGI differently.
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # The client's address and scheme are not used.
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
