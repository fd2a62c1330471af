"""The broker inside `voltwire up`: it listens, and serves each connection in a task of its own."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import structlog
from amqtt.adapters import StreamWriterAdapter

from broker.embedded import limits
from broker.embedded.accounts import AccountChange
from broker.embedded.connection import PacketStream
from broker.embedded.rights import Access
from broker.embedded.sessions import EmbeddedBroker
from runtime.errors import StartError

log = structlog.get_logger()


async def run(
    host: str,
    port: int,
    stop: asyncio.Event,
    access: Access,
    changes: AsyncIterator[AccountChange] | None = None,
    *,
    on_ready: Callable[[int], None] | None = None,
) -> None:
    """Serve until `stop`, with the accounts that `changes` brings. Raises StartError.

    `on_ready` gets the port (0 asks for a free one).
    """
    logging.getLogger("amqtt").setLevel(logging.ERROR)  # It warns of every lost client.
    logging.getLogger("transitions").setLevel(logging.ERROR)
    broker = EmbeddedBroker(access)
    listener = _Listener(broker)
    server = await _listen(host, port, listener)
    await broker.start()
    try:
        async with asyncio.TaskGroup() as connections:
            listener.connections = connections
            following = connections.create_task(_follow(changes, broker)) if changes else None
            await server.start_serving()
            port = server.sockets[0].getsockname()[1]
            log.info("The embedded broker is listening.", host=host, port=port)
            if on_ready is not None:
                on_ready(port)
            await stop.wait()
            server.close()
            listener.abort_all()
            if following is not None:
                following.cancel()
    finally:
        await broker.shutdown()


async def _follow(changes: AsyncIterator[AccountChange], broker: EmbeddedBroker) -> None:
    """Apply the changes, and let the event loop handle clients after each."""
    async for change in changes:
        await broker.change_accounts(change)
        await asyncio.sleep(0)


async def _listen(host: str, port: int, listener: "_Listener") -> asyncio.Server:
    try:
        return await asyncio.start_server(listener.accept, host, port, start_serving=False)
    except OSError as error:
        raise StartError(
            f"The MQTT broker cannot listen on {host}:{port} ({error.strerror or error}): "
            "stop the program that uses this port, or set MQTT_HOST and MQTT_PORT."
        ) from error


class _Listener:
    """The open connections, at most so many."""

    connections: asyncio.TaskGroup

    def __init__(self, broker: EmbeddedBroker) -> None:
        self._broker = broker
        self._connections_max = limits.connections_max()
        self._streams: set[PacketStream] = set()
        self._stopping = False
        self._limit_log = limits.LimitLog()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = PacketStream(reader, writer)
        if self._stopping:
            stream.abort()
            return
        open_already = len(self._streams)
        if open_already >= self._connections_max + limits.CONNECTIONS_RESERVE:
            self._limit_log.report(
                "A connection was closed: the embedded broker has as many as it can serve.",
                connections=open_already,
            )
            stream.abort()
            return
        stream.only_ours = open_already >= self._connections_max
        self._streams.add(stream)
        self.connections.create_task(self._serve(stream, writer))

    def abort_all(self) -> None:
        self._stopping = True
        for stream in self._streams:
            stream.abort()

    async def _serve(self, stream: PacketStream, writer: asyncio.StreamWriter) -> None:
        """Serve one connection. No fault of it ends the broker."""
        try:
            await self._broker.external_connected(stream, StreamWriterAdapter(writer), "default")
        except OSError as error:
            log.debug("A connection ended early.", reason=str(error))
        except Exception:
            log.exception("A connection ended with an error.")
        finally:
            self._streams.discard(stream)
            stream.abort()
