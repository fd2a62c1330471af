"""A TCP proxy that injects faults, in a thread with its own event loop.

It delays data and never drops it, since TCP would send it again after the fault. The methods for faults
can be called from any thread; each returns when the fault is active.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

CHUNK_BYTES = 65_536
CALL_S_MAX = 60
ANSWER_S_MAX = 60
BACKLOG = 512
NO_LINGER = struct.pack("ii", 1, 0)  # close() sends RST.


class Direction(StrEnum):
    TO_SERVER = "to server"
    TO_CLIENT = "to client"


@dataclass(eq=False, slots=True)
class Trap:
    """What `reset_when` waits for."""

    pattern: bytes
    deliver: bool
    happened: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False, slots=True)
class Link:
    """One client and our connection to the server for it; None until there is one."""

    client: socket.socket
    server: socket.socket | None = None
    task: "asyncio.Task[None] | None" = None
    seen: bytes = b""  # The end of what the client sent: a pattern may come in two pieces.
    answered: asyncio.Event | None = None  # Set by the next data of the server, which is lost.
    sprung: Trap | None = None
    linger: bytes | None = None  # None: it ends with FIN; else with RST.


class Proxy:
    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._links: set[Link] = set()
        self._passes = {direction: asyncio.Event() for direction in Direction}
        self._latency_s, self._piece_bytes = 0.0, CHUNK_BYTES
        self._trap: Trap | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._listener = _bound(0)
        self.port = int(self._listener.getsockname()[1])
        self.accepted = 0  # Connections so far.
        self.passed_bytes = dict.fromkeys(Direction, 0)

    def __enter__(self) -> Self:
        self._thread.start()
        self.pass_through()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        return len(self._links)

    def pass_through(self) -> None:
        """End all faults: the remaining connections continue with the delayed data."""
        self._call(self._heal)

    def blackhole(self) -> None:
        """Nothing passes, not even FIN or RST; new connections are accepted and hang."""
        self._call(self._hold, *Direction)

    def half_open(self, dropped: Direction = Direction.TO_CLIENT) -> None:
        """Nothing passes in one direction."""
        self._call(self._hold, dropped)

    def reset(self) -> None:
        """RST to both ends of all present connections; new ones pass."""
        self._call(self._end_links, linger=NO_LINGER)

    def cut(self) -> None:
        """FIN to both ends of all present connections; new ones pass."""
        self._call(self._end_links)

    def refuse(self) -> None:
        """New connections are refused; present ones continue."""
        self._call(self._stop_listening)

    def latency(self, seconds: float) -> None:
        """Delay each chunk of at most 64 KiB, in both directions."""
        self._call(self._shape, seconds, self._piece_bytes)

    def slice(self, piece_bytes: int = 1) -> None:
        self._call(self._shape, self._latency_s, piece_bytes)

    def reset_when(self, pattern: bytes, *, deliver: bool) -> threading.Event:
        """Send RST to both ends when data of a client contains the pattern.

        With `deliver` the server receives the data and its response is lost; without, the server never
        receives the data. The event is set when it has happened.
        """
        trap = Trap(pattern, deliver)
        self._call(self._arm, trap)
        return trap.happened

    def _call(
        self, action: Callable[..., Coroutine[Any, Any, None]], *args: Any, **more: Any
    ) -> None:
        asyncio.run_coroutine_threadsafe(action(*args, **more), self._loop).result(CALL_S_MAX)

    async def _heal(self) -> None:
        self._latency_s, self._piece_bytes, self._trap = 0.0, CHUNK_BYTES, None
        for event in self._passes.values():
            event.set()
        if self._accepting is None:
            self._listener.listen(BACKLOG)
            self._accepting = self._loop.create_task(self._accept())

    async def _hold(self, *directions: Direction) -> None:
        for direction in directions:
            self._passes[direction].clear()

    async def _shape(self, latency_s: float, piece_bytes: int) -> None:
        self._latency_s, self._piece_bytes = latency_s, piece_bytes

    async def _arm(self, trap: Trap) -> None:
        self._trap = trap

    async def _stop_listening(self) -> None:
        """Keep the port bound, but do not listen."""
        if self._accepting is not None:
            await _ended(self._accepting)
            self._accepting = None
            self._listener.close()
            self._listener = _bound(self.port)

    async def _end_links(self, *, linger: bytes | None = None) -> None:
        await asyncio.gather(*(self._end(link, linger=linger) for link in tuple(self._links)))

    async def _close(self) -> None:
        await self._stop_listening()
        self._listener.close()
        await self._end_links(linger=NO_LINGER)

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            self.accepted += 1
            link = Link(client)
            self._links.add(link)
            link.task = self._loop.create_task(self._serve(link))

    async def _serve(self, link: Link) -> None:
        """Run until both sides have closed, or one has failed."""
        try:
            await self._passes[Direction.TO_SERVER].wait()
            link.server = _plain_socket()
            await self._loop.sock_connect(link.server, self._target)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(link, Direction.TO_SERVER))
                pumps.create_task(self._pump(link, Direction.TO_CLIENT))
        except* OSError:
            link.linger = NO_LINGER
        finally:
            self._forget(link)

    async def _pump(self, link: Link, direction: Direction) -> None:
        assert link.server is not None
        onward = direction is Direction.TO_SERVER
        source, sink = (link.client, link.server) if onward else (link.server, link.client)
        while data := await self._received(source, direction):
            if onward and self._is_caught(link, data):
                await self._spring(link, data)
            if not onward and link.answered is not None:
                link.answered.set()
                continue
            await asyncio.sleep(self._latency_s)
            await self._send(sink, data, direction)
        with suppress(OSError):  # It may have closed meanwhile.
            sink.shutdown(socket.SHUT_WR)

    async def _received(self, source: socket.socket, direction: Direction) -> bytes:
        """Data, and also an error, pass only when the direction is open."""
        try:
            data = await self._loop.sock_recv(source, CHUNK_BYTES)
        except OSError:
            await self._passes[direction].wait()
            raise
        await self._passes[direction].wait()
        return data

    async def _send(self, sink: socket.socket, data: bytes, direction: Direction) -> None:
        for start in range(0, len(data), self._piece_bytes):
            await self._passes[direction].wait()
            piece = data[start : start + self._piece_bytes]
            await self._loop.sock_sendall(sink, piece)
            self.passed_bytes[direction] += len(piece)
            if self._piece_bytes < CHUNK_BYTES:
                await asyncio.sleep(0)  # Other tasks run between the pieces.

    def _is_caught(self, link: Link, data: bytes) -> bool:
        if self._trap is None:
            link.seen = b""
            return False
        seen = link.seen + data
        link.seen = seen[-len(self._trap.pattern) + 1 :] if len(self._trap.pattern) > 1 else b""
        return self._trap.pattern in seen

    async def _spring(self, link: Link, data: bytes) -> None:
        """Raises ConnectionResetError, after which both ends get RST."""
        trap, self._trap = self._trap, None
        assert trap is not None
        assert link.server is not None
        if trap.deliver:
            link.answered = asyncio.Event()
            await self._loop.sock_sendall(link.server, data)
            async with asyncio.timeout(ANSWER_S_MAX):  # A TimeoutError is an OSError, too.
                await link.answered.wait()
        link.sprung = trap
        raise ConnectionResetError

    async def _end(self, link: Link, *, linger: bytes | None) -> None:
        assert link.task is not None
        link.linger = linger
        await _ended(link.task)
        self._forget(link)  # The task did not, if it never ran.

    def _forget(self, link: Link) -> None:
        """Call it only when nothing waits for the sockets: their numbers are reused at once."""
        for sock in (link.client, link.server):
            if sock is not None and sock.fileno() >= 0:
                if link.linger is not None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, link.linger)
                sock.close()
        self._links.discard(link)
        if link.sprung is not None:
            link.sprung.happened.set()


@contextmanager
def proxy(target_port: int) -> Iterator[Proxy]:
    with Proxy(target_port) as running:
        yield running


def _bound(port: int) -> socket.socket:
    sock = _plain_socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _plain_socket() -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Inherited by what it accepts.
    return sock


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
