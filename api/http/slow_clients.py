"""Streams whose clients take nothing."""

import asyncio
from collections.abc import Callable

from litestar.types import ASGIApp, Message, Receive, Scope, Send


def cut_off_idle_readers(send_s_max: float) -> Callable[[ASGIApp], ASGIApp]:
    """Middleware of streams: what a client does not take in time ends its stream."""

    def middleware(app: ASGIApp) -> ASGIApp:
        async def cutting_off(scope: Scope, receive: Receive, send: Send) -> None:
            late = False

            async def send_in_time(message: Message) -> None:
                nonlocal late
                try:
                    async with asyncio.timeout(send_s_max):
                        await send(message)
                except TimeoutError:
                    late = True
                    raise

            try:
                await app(scope, receive, send_in_time)
            except Exception:
                if not late:
                    raise

        return cutting_off

    return middleware
