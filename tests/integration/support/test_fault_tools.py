"""The fault tools break exactly what they claim to break, and leave nothing behind."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import psutil
import pytest

from runtime.postgres.leftovers import server_name
from tests.support.database.postgres_server import PostgresServer, postgres_server
from tests.support.network.proxy import Direction, Proxy, proxy
from tests.support.processes.services import ROOT

pytestmark = pytest.mark.slow

SHORT_S = 0.2  # Long enough for loopback; what has not arrived by then is held back.


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server that sends back what it receives."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads: list[threading.Thread] = []
        accepting = threading.Thread(target=_accept, args=(listener, threads))
        accepting.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for thread in (accepting, *threads):
            thread.join()


def _accept(listener: socket.socket, threads: list[threading.Thread]) -> None:
    with suppress(OSError):
        while True:
            peer, _ = listener.accept()
            threads.append(threading.Thread(target=_echo, args=(peer,)))
            threads[-1].start()


def _echo(peer: socket.socket) -> None:
    with peer, suppress(OSError):
        while data := peer.recv(65_536):
            peer.sendall(data)


@pytest.fixture
def link(echo_port: int) -> Iterator[Proxy]:
    with proxy(echo_port) as link:
        yield link


@contextmanager
def connected(link: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", link.port), timeout=5) as client:
        yield client


def echoed(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return received(client, len(data))


def received(client: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length and (piece := client.recv(length)):
        data += piece
    return data


def is_silent(client: socket.socket) -> bool:
    return not select.select([client], [], [], SHORT_S)[0]


def test_a_server_starts_empty_and_belongs_to_the_user_of_the_dsn(server: PostgresServer) -> None:
    async def found() -> tuple[str, str, int]:
        connection = await asyncpg.connect(server.dsn)
        owner = await connection.fetchval(
            "select datdba::regrole::text from pg_database where datname = current_database()"
        )
        fsync = await connection.fetchval("show fsync")
        tables = await connection.fetchval(
            "select count(*) from pg_tables where schemaname = 'public'"
        )
        await connection.close()
        return owner, fsync, tables

    assert asyncio.run(found()) == ("voltwire", "on", 0)


@pytest.mark.parametrize("mode", ["fast", "immediate", "smart"])
def test_what_was_committed_is_there_after_a_restart(server: PostgresServer, mode: str) -> None:
    server.sql(f"create table of_{mode} as select 42 as answer")
    server.restart(mode)
    assert server.sql(f"select answer from of_{mode}") == ["42"]


def test_a_killed_server_starts_again_on_the_same_port(server: PostgresServer) -> None:
    port = server.port
    server.sql("create table kept as select 42 as answer")
    with subprocess.Popen([server._programs / "psql", server.dsn, "-c", "select pg_sleep(60)"]):
        wait_until(lambda: server.sql("select 1 from pg_stat_activity where query ~ '^select pg_'"))
        server.kill()
        with pytest.raises(OSError, match="refused"):
            server.sql("select 1")
        server.start()
    assert server.sql("select answer from kept") == ["42"]
    assert server.port == port


def test_only_the_named_backends_are_killed(server: PostgresServer) -> None:
    async def scenario() -> tuple[int, int]:
        ours = await asyncpg.connect(server.dsn, server_settings={"application_name": "it writer"})
        none = server.kill_backends("%reader%")
        assert await ours.fetchval("select 1") == 1
        one = server.kill_backends("%writer%")
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await ours.fetchval("select 1")
        return none, one

    assert asyncio.run(scenario()) == (0, 1)
    wait_until(lambda: responses(server))


def test_a_server_may_be_restarted_by_a_thread_that_ends(server: PostgresServer) -> None:
    thread = threading.Thread(target=server.restart)
    thread.start()
    thread.join()
    time.sleep(SHORT_S)
    assert responses(server)


def test_nothing_of_a_server_remains_even_after_a_failure_and_a_kill() -> None:
    seen = []

    def fail() -> None:
        with postgres_server() as server:
            seen.append((server_name(server.cluster), server.folder, shared_memory(server)))
            server.kill()
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    name, folder, segments = seen[0]
    assert not processes_named(name)
    assert not folder.exists()
    assert segments
    assert not [segment for segment in segments if segment.exists()]


def shared_memory(server: PostgresServer) -> set[Path]:
    """What it has in /dev/shm."""
    assert server._process is not None
    mapped = psutil.Process(server._process.pid).memory_maps()
    return {Path(each.path) for each in mapped if each.path.startswith("/dev/shm/PostgreSQL.")}


def test_a_server_ends_with_the_process_that_started_it() -> None:
    script = (
        "from tests.support.database.postgres_server import *\n"
        "with postgres_server() as s: print(s.folder, server_name(s.cluster), flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        folder, name = owner.stdout.readline().split()
        assert processes_named(name)
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not processes_named(name))
    subprocess.run(["rm", "-r", folder], check=True)


def test_data_and_the_end_of_a_connection_pass(link: Proxy) -> None:
    big = os.urandom(300_000)
    with connected(link) as client:
        sender = threading.Thread(target=client.sendall, args=(big,))
        sender.start()
        assert received(client, len(big)) == big
        sender.join()
        client.shutdown(socket.SHUT_WR)
        assert not client.recv(1)
    wait_until(lambda: link.connections == 0)


def test_a_black_hole_swallows_everything_until_it_heals(link: Proxy) -> None:
    with connected(link) as old:
        assert echoed(old, b"before") == b"before"
        link.blackhole()
        with connected(link) as new:
            old.sendall(b"old")
            new.sendall(b"new")
            assert is_silent(old)
            assert is_silent(new)
            link.pass_through()
            assert received(old, 3) == b"old"
            assert received(new, 3) == b"new"


def test_a_black_hole_hides_the_end_of_a_connection(link: Proxy) -> None:
    with connected(link) as client:
        echoed(client, b"x")
        link.blackhole()
    time.sleep(SHORT_S)
    assert link.connections == 1
    link.pass_through()
    wait_until(lambda: link.connections == 0)


@pytest.mark.parametrize("dropped", list(Direction))
def test_half_open_drops_one_direction(link: Proxy, dropped: Direction) -> None:
    with connected(link) as client:
        echoed(client, b"x")
        link.half_open(dropped)
        client.sendall(b"y")
        assert is_silent(client)
        link.pass_through()
        assert received(client, 1) == b"y"


def test_reset_breaks_present_connections_and_lets_new_ones_pass(link: Proxy) -> None:
    with connected(link) as old:
        echoed(old, b"x")
        link.reset()
        with pytest.raises(ConnectionResetError):
            old.recv(1)
        with connected(link) as new:
            assert echoed(new, b"new") == b"new"


def test_cut_ends_present_connections_in_order(link: Proxy) -> None:
    with connected(link) as client:
        echoed(client, b"x")
        link.cut()
        assert not client.recv(1)


def test_refuse_keeps_present_connections_and_refuses_new_ones(link: Proxy) -> None:
    with connected(link) as old:
        echoed(old, b"x")
        link.refuse()
        with pytest.raises(ConnectionRefusedError), connected(link):
            pass
        assert echoed(old, b"y") == b"y"
        link.pass_through()
        with connected(link) as new:
            assert echoed(new, b"z") == b"z"


def test_latency_counts_in_both_directions_and_slices_stay_whole(link: Proxy) -> None:
    with connected(link) as client:
        link.latency(0.1)
        link.slice(1)
        started = time.monotonic()
        assert echoed(client, b"0123456789" * 100) == b"0123456789" * 100
        assert 0.2 <= time.monotonic() - started < 2


@pytest.mark.parametrize("deliver", [False, True])
def test_a_reset_in_commit_happens_before_or_after_the_server_got_it(
    server: PostgresServer, link_to_server: Proxy, *, deliver: bool
) -> None:
    async def scenario() -> None:
        connection = await asyncpg.connect(server.connect_through(link_to_server.port))
        happened = link_to_server.reset_when(b"commit\0", deliver=deliver)
        await connection.execute("begin")
        await connection.execute("insert into in_doubt values (1)")
        assert not happened.is_set()
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await connection.execute("commit")
        assert happened.wait(5)

    server.sql("drop table if exists in_doubt; create table in_doubt (n int)")
    server.sql("grant all on in_doubt to public")
    asyncio.run(scenario())
    assert server.sql("select count(*) from in_doubt") == [str(int(deliver))]


@pytest.fixture
def link_to_server(server: PostgresServer) -> Iterator[Proxy]:
    with proxy(server.port) as link:
        yield link


def responses(server: PostgresServer) -> bool:
    try:
        return server.sql("select 1") == ["1"]
    except OSError:
        return False


def processes_named(name: str) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if name in " ".join(process.info["cmdline"] or [])
    ]


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "It did not happen in time."
        time.sleep(0.02)
