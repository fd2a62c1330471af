"""`voltwire backup`, `restore` and `sql` as an operator uses them, embedded and on a server of his own."""

import asyncio
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runtime.postgres.home import PROGRAMS, wheel_folder
from schema.migrate import migrate
from tests.acceptance.conftest import base_url, up_settings
from tests.support.database.postgres_server import PostgresServer, postgres_server
from tests.support.http import plain_http
from tests.support.processes.forked import Forked
from tests.support.processes.services import (
    ForkedProcess,
    Process,
    clean_environment,
    temporary_folder,
)

EVENTS = 30
RULE = {"device_id": "dev1", "metric": "temp", "op": ">", "threshold": 0}
# Notices that "interrupted" came in the middle: the fresh database exists.
RESTORING = "select count(*) from pg_database where datname = 'voltwire_restoring'"

OTHER_DATABASES = (
    "select datname from pg_database where datname not like 'template_' and datname not in"
    " ('postgres', 'migrated')"
)
SLEEPING = "select pid from pg_stat_activity where query = 'select pg_sleep(60)'"


class Commands:
    """`voltwire` in a folder, against the settings of that folder."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder, self.settings = folder, settings

    def start(self, *arguments: str, **files: Any) -> "subprocess.Popen[bytes]":
        return Forked(
            arguments,
            cwd=self.folder, env=clean_environment(self.settings),
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **files},
        )  # fmt: skip

    def run(self, *arguments: str, **files: Any) -> tuple[int, str]:
        """The exit code, and the last line that is no log line."""
        with self.start(*arguments, **files) as process:
            said, errors = process.communicate(timeout=60)
        text = ((said or b"") + (errors or b"")).decode(errors="replace")
        lines = [line for line in text.splitlines() if line and not line.startswith("{")]
        return process.returncode, lines[-1] if lines else ""

    def succeed(self, *arguments: str, **files: Any) -> str:
        code, said = self.run(*arguments, **files)
        assert code == 0, said
        return said

    def refuse(self, *arguments: str, code: int = 1) -> str:
        found, said = self.run(*arguments)
        assert found == code, said
        return said

    def sql(self, statement: str) -> str:
        return self.succeed("sql", "-Atc", statement)


def post(up: Process, first: int, last: int) -> None:
    """Events of the last hour, one second after the other."""
    start = datetime.now(UTC) - timedelta(hours=1)
    events = [
        {"event_id": f"e{n}", "device_id": "dev1", "metrics": {"temp": n},
         "timestamp": (start + timedelta(seconds=n)).isoformat()}
        for n in range(first, last)
    ]  # fmt: skip
    plain_http.post(f"{base_url(up)}/v1/events/batch", json=events, timeout=30).raise_for_status()


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def embedded() -> Iterator[tuple[Commands, Process]]:
    """A data folder with events, a rule and a backup `full.dump`; its `up` is stopped."""
    settings = up_settings() | {"MAX_EVENT_AGE_DAYS": "100"}
    with temporary_folder() as folder, ForkedProcess(folder, "up", settings=settings) as up:
        up.wait_until_ok(f"{base_url(up)}/health")
        commands = Commands(folder, up.settings)
        plain_http.post(f"{base_url(up)}/v1/alerts", json=RULE, timeout=30).raise_for_status()
        post(up, 1, EVENTS)
        for name in ("kept", "revoked"):
            commands.succeed("key", "create", name, "--scope", "read")
        commands.succeed("backup", "full.dump")
        commands.succeed("key", "revoke", "revoked")
        pid = up.process.pid
        said = commands.refuse("restore", "full.dump", "--replace")
        assert f"is in use by process {pid}: stop it first" in said
        assert up.stop() == 0
        yield commands, up


def test_a_backup_is_private_whole_and_never_replaces_a_file_unasked(
    embedded: tuple[Commands, Process],
) -> None:
    commands, _ = embedded
    file = commands.folder / "kept.dump"
    said = commands.succeed("backup", "kept.dump")  # Nothing runs: it starts the server itself.
    assert said.startswith("The backup is complete: kept.dump (")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b"precious")
    assert "--force" in commands.refuse("backup", "kept.dump")
    assert file.read_bytes() == b"precious"
    commands.succeed("backup", "kept.dump", "--force")
    assert file.read_bytes().startswith(b"PGDMP")
    assert not list(commands.folder.glob("*.partial"))


@pytest.mark.parametrize("target", ["nowhere/x.dump", ".", "/dev/null"])
def test_a_target_that_cannot_be_a_file_is_refused(
    embedded: tuple[Commands, Process], target: str
) -> None:
    said = embedded[0].refuse("backup", target, "--force")
    assert target in said or "folder nowhere" in said


def test_without_a_database_the_commands_say_what_to_set() -> None:
    with temporary_folder() as folder:
        commands = Commands(folder, {})
        for command in (("backup", "x.dump"), ("sql",), ("sql", "--url")):
            assert ".voltwire" in commands.refuse(*command)
        assert list(folder.iterdir()) == []


def test_restore_needs_a_backup_and_leave_to_replace_events(
    embedded: tuple[Commands, Process],
) -> None:
    commands, _ = embedded
    said = commands.refuse("restore", "full.dump")
    assert "holds events" in said
    assert "--replace" in said
    assert "cannot be read" in commands.refuse("restore", "missing.dump", "--replace")
    (commands.folder / "text.dump").write_text("create table x ()")
    assert "is no backup" in commands.refuse("restore", "text.dump", "--replace")
    whole = (commands.folder / "full.dump").read_bytes()
    for kept in (10, len(whole) // 2, len(whole) - 100):
        (commands.folder / "cut.dump").write_bytes(whole[:kept])
        assert "as it was before" in commands.refuse("restore", "cut.dump", "--replace")
    found = commands.sql(
        "select string_agg(datname, ' ' order by datname), (select count(*) from event)"
        " from pg_database"
    )
    assert found == f"postgres template0 template1 voltwire|{EVENTS - 1}"


def test_a_stream_resumes_after_a_restore_without_repeats(
    embedded: tuple[Commands, Process],
) -> None:
    """Alerts told after the backup took numbers; those after the restore must be above them."""
    commands, up = embedded
    up.start()
    up.wait_until_ok(f"{base_url(up)}/health")
    post(up, EVENTS, EVENTS + 10)
    newest = int(commands.sql("select max(last_id) from feed"))
    assert up.stop() == 0
    made = commands.succeed("restore", "full.dump", "--replace")
    assert "29 events" in made
    assert "key:kept" not in made
    assert "These credentials are valid again, or for the first time: key:revoked. " in made
    up.start()
    up.wait_until_ok(f"{base_url(up)}/health")
    post(up, EVENTS + 20, EVENTS + 21)
    url = f"{base_url(up)}/v1/alerts/stream"
    with plain_http.stream(
        "GET", url, headers={"Last-Event-ID": str(newest)}, timeout=30
    ) as stream:
        lines = stream.iter_lines()
        told = int(next(line for line in lines if line.startswith("id:"))[3:])
        data = next(line for line in lines if line.startswith("data:"))
    assert newest < told < 2**53
    assert f'"event_id":"e{EVENTS + 20}"' in data
    assert up.stop() == 0


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_a_restore_that_is_ended_in_the_middle_changes_nothing(
    embedded: tuple[Commands, Process], number: signal.Signals
) -> None:
    commands, _ = embedded
    before = commands.sql("select count(*) from event")
    whole = (commands.folder / "full.dump").read_bytes()
    with commands.start("restore", "-", "--replace", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(whole[: len(whole) // 2])  # It waits for the rest.
        process.stdin.flush()
        until(lambda: commands.run("sql", "-Atc", RESTORING) == (0, "1"))
        process.send_signal(number)
        errors = process.stderr.read() if process.stderr else b""
        process.wait(timeout=60)
    if number is signal.SIGINT:
        assert process.returncode == 1
        assert b"as it was before" in errors
    assert commands.sql("select count(*) from event") == before
    commands.succeed("restore", "full.dump", "--replace")
    assert commands.sql(RESTORING) == "0"


def test_a_backup_goes_through_a_pipe_both_ways(embedded: tuple[Commands, Process]) -> None:
    commands, _ = embedded
    with (commands.folder / "piped.dump").open("wb") as file:
        commands.succeed("backup", "-", stdout=file)
    with subprocess.Popen(["cat", commands.folder / "piped.dump"], stdout=subprocess.PIPE) as cat:
        assert "events" in commands.succeed("restore", "-", "--replace", stdin=cat.stdout)


def test_sql_hands_statements_to_psql_and_its_failure_back(
    embedded: tuple[Commands, Process],
) -> None:
    commands, _ = embedded
    assert commands.sql("select current_database()") == "voltwire"
    assert commands.refuse("sql", "-c", "select nonsense")
    with (commands.folder / "in.sql").open("w+") as file:
        file.write("select 6 * 7")
        file.seek(0)
        assert commands.succeed("sql", "-At", stdin=file) == "42"
    assert "No voltwire up runs" in commands.refuse("sql", "--url")


@pytest.fixture(scope="module")
def operators_server() -> Iterator[PostgresServer]:
    """A server of the operator's, with the migrated database `migrated`."""
    with temporary_folder() as folder, postgres_server(folder=folder) as server:
        asyncio.run(migrate(server.dsn, max_age_days=100))
        server.sql("alter role voltwire password 'se cret'")
        server.sql("alter database voltwire rename to migrated", "postgres")
        yield server


@pytest.fixture
def server(operators_server: PostgresServer) -> Iterator[tuple[Commands, PostgresServer]]:
    """Its only other database is a copy of that one, whose owner may create databases."""
    for name in operators_server.sql(OTHER_DATABASES, "postgres"):
        operators_server.sql(f"drop database {name} with (force)", "postgres")
    operators_server.sql("create database voltwire template migrated owner voltwire", "postgres")
    operators_server.sql("alter role voltwire createdb", "postgres")
    url = operators_server.dsn.replace("voltwire@", "voltwire:se%20cret@")
    with temporary_folder() as folder:
        yield Commands(folder, {"DATABASE_URL": url}), operators_server


def test_a_server_of_the_operators_is_restored_while_nobody_is_connected(
    server: tuple[Commands, PostgresServer],
) -> None:
    commands, postgres = server
    postgres.sql("insert into rule (metric, op, threshold, severity, for_s, cooldown_s, notify, enabled)"
                 " values ('m', '>', 1, 'info', 0, 0, 'every', true)")  # fmt: skip
    commands.succeed("backup", "full.dump")
    postgres.sql("delete from rule")
    client: list[str | Path] = [
        wheel_folder() / PROGRAMS / "psql",
        postgres.dsn,
        "-c",
        "select pg_sleep(60)",
    ]
    environment = os.environ | {"PGAPPNAME": "voltwire api"}
    with subprocess.Popen(client, env=environment, stdout=subprocess.DEVNULL) as busy:
        until(
            lambda: len(
                postgres.sql("select 1 from pg_stat_activity where query like '%sleep(60)'")
            )
        )
        said = commands.refuse("restore", "full.dump")
        postgres.sql(SLEEPING.replace("pid", "pg_terminate_backend(pid)", 1))
        busy.wait()
    assert "voltwire api" in said
    assert "stop every role" in said
    until(lambda: commands.run("restore", "full.dump")[0] == 0)
    assert postgres.sql("select count(*), min(rule_id) from rule") == ["1|r1"]
    owner = "select pg_get_userbyid(datdba) from pg_database where datname = 'voltwire'"
    assert postgres.sql(owner) == ["voltwire"]


def test_a_database_that_is_not_there_yet_is_made(server: tuple[Commands, PostgresServer]) -> None:
    commands, _ = server
    commands.succeed("backup", "full.dump")
    url = commands.settings["DATABASE_URL"]
    fresh = Commands(commands.folder, {"DATABASE_URL": f"{url.rpartition('/')[0]}/fresh"})
    assert fresh.succeed("restore", "full.dump").startswith("The restore is complete: 0 events")
    assert fresh.sql("select current_database()") == "fresh"


def test_a_login_that_may_not_create_databases_is_told_so(
    server: tuple[Commands, PostgresServer],
) -> None:
    commands, postgres = server
    commands.succeed("backup", "full.dump")
    postgres.sql("alter role voltwire nocreatedb")
    assert "CREATEDB" in commands.refuse("restore", "full.dump")


def test_a_dump_of_another_program_and_of_a_newer_voltwire_change_nothing(
    server: tuple[Commands, PostgresServer],
) -> None:
    commands, postgres = server
    postgres.sql("create database other")
    dump: list[str | Path] = [
        wheel_folder() / PROGRAMS / "pg_dump",
        "--format=custom",
        "--file",
        commands.folder / "o.dump",
    ]
    subprocess.run([*dump, postgres.superuser_dsn.replace("/voltwire", "/other")], check=True)
    assert "not of Voltwire" in commands.refuse("restore", "o.dump")
    postgres.sql("insert into schema_migration values (9999, '9999_future', 'x')")
    commands.succeed("backup", "newer.dump")
    postgres.sql("delete from schema_migration where version = 9999")
    assert "newer Voltwire" in commands.refuse("restore", "newer.dump")
    assert postgres.sql(RESTORING) == ["0"]


def test_no_password_is_on_the_command_line_of_a_program(
    server: tuple[Commands, PostgresServer],
) -> None:
    commands, _ = server
    with commands.start("sql", "-c", r"\! ps -o args= -p $PPID", "-c", "select 1") as process:
        said, _ = process.communicate(timeout=60)
    assert b"psql" in said
    assert b"cret" not in said


def test_the_url_is_one_that_programs_take(server: tuple[Commands, PostgresServer]) -> None:
    commands, _ = server
    psql: list[str | Path] = [
        wheel_folder() / PROGRAMS / "psql",
        commands.succeed("sql", "--url"),
        "-Atc",
        "select 1",
    ]
    assert subprocess.check_output(psql, text=True).strip() == "1"
