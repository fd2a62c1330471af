"""Streams whose clients stop reading."""

import asyncio
from collections.abc import Callable

from litestar.types import ASGIApp, Message, Receive, Scope, Send


def disconnect_slow_clients(send_s_max: float) -> Callable[[ASGIApp], ASGIApp]:
    """Middleware that ends a stream when its client does not read a message within `send_s_max`."""

    def middleware(app: ASGIApp) -> ASGIApp:
        async def cutting_off(scope: Scope, receive: Receive, send: Send) -> None:
            timed_out = False

            async def send_in_time(message: Message) -> None:
                nonlocal timed_out
                try:
                    async with asyncio.timeout(send_s_max):
                        await send(message)
                except TimeoutError:
                    timed_out = True
                    raise

            try:
                await app(scope, receive, send_in_time)
            except Exception:
                if not timed_out:
                    raise

        return cutting_off

    return middleware
