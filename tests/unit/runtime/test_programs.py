"""Which of PostgreSQL's programs is run, and what of a DSN others may see."""

from pathlib import Path

import pytest

from runtime.errors import StartError
from runtime.postgres.home import PROGRAMS, wheel_folder
from runtime.postgres.programs import Program, with_database, without_password


def program(folder: Path, major: int) -> Path:
    """A program that says it is of this version of PostgreSQL."""
    folder.mkdir()
    path = folder / "pg_dump"
    path.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {major}.1'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("dsn", "shown", "password"),
    [
        ("postgresql://u:p%40w@h:5432/db?sslmode=require", "postgresql://u@h:5432/db?sslmode=require", "p@w"),
        ("postgresql:///db?password=x&host=/run", "postgresql:///db?host=/run", "x"),
        ("postgresql://u:p@h1,h2:5/db", "postgresql://u@h1,h2:5/db", "p"),
        ("postgresql://postgres@/v?host=/a%20b&port=1", "postgresql://postgres@/v?host=/a%20b&port=1", None),
    ],
)  # fmt: skip
def test_a_dsn_is_shown_without_its_password(dsn: str, shown: str, password: str | None) -> None:
    assert without_password(dsn) == (shown, password)


@pytest.mark.parametrize(
    ("dsn", "other"),
    [
        ("postgresql://u:p@h/db?sslmode=require", "postgresql://u:p@h/x%20y?sslmode=require"),
        ("postgresql://h", "postgresql://h/x%20y"),
        ("postgresql:///a?host=/run&dbname=b", "postgresql:///x%20y?host=/run"),
    ],
)
def test_a_dsn_may_name_another_database(dsn: str, other: str) -> None:
    assert with_database(dsn, "x y") == other


def test_the_program_in_path_is_taken_if_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path / "bin", 17)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    assert Program.for_server("pg_dump", 17).path == path
    assert Program.for_server("pg_dump", 18).path == wheel_folder() / PROGRAMS / "pg_dump"
    with pytest.raises(StartError, match=r"PostgreSQL 99.*is of version 17.*install the client"):
        Program.for_server("pg_dump", 99)
