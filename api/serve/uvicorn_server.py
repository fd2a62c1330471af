"""uvicorn inside a Voltwire process: with its signals and sockets, stopping within seconds."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from litestar.types import ASGIApp

from api.serve.body_budget import BodyBudget
from api.serve.http_protocol import HttpProtocol

KEEP_ALIVE_S = 75
GRACE_S = 3  # For responses in progress when the server stops.


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The process handles signals and stops every role through one event."""
        yield


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    stop: asyncio.Event,
    bodies_bytes_max: int,
    trusted_proxies: Sequence[str] = (),
) -> None:
    """Answer requests until `stop` is set; of bodies the process holds `bodies_bytes_max` at a time.

    The client of a request is the one that the connection comes from. `trusted_proxies` are networks whose
    `X-Forwarded-For` and `X-Forwarded-Proto` name another client and the scheme it used.
    """
    server = _Server(
        uvicorn.Config(
            cast("Any", app),  # The two libraries type ASGI differently.
            http=cast("Any", partial(HttpProtocol, budget=BodyBudget(bodies_bytes_max))),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(
                trusted_proxies
            ),  # Never None, for which uvicorn has a default.
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
