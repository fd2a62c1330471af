"""The layout: packages are folders, SQL is in files, query names are unique, locks are listed."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from schema import locks
from schema.queries import load_queries
from tests.support.processes.services import PACKAGES, ROOT


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_the_folder_of_this_repository(name: str) -> None:
    file = import_module(name).__file__
    assert file is not None
    assert Path(file).parent == ROOT / name


SQL_FILES = sorted(
    path.relative_to(ROOT)
    for package in PACKAGES
    for path in (ROOT / package).glob("**/*.sql")
    if path.parent.name != "migrations"
)


@pytest.mark.parametrize("file", SQL_FILES, ids=str)
def test_no_query_hides_another_of_the_same_name(file: Path) -> None:
    headings = re.findall(r"^-- (\w+) --$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert headings
    assert len(headings) == len(set(headings))


SQL = re.compile(
    r"(select|with|insert into|update|delete from|create table|alter table|drop table|lock table) "
)
# The migration runner works before there are any tables; `sql` wraps the query of its caller.
WITH_SQL = {"schema/migrate.py", "cli/sql.py"}


def test_no_module_holds_sql() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {text}"
        for package in PACKAGES
        for path in (ROOT / package).glob("**/*.py")
        if path.relative_to(ROOT).as_posix() not in WITH_SQL
        for text in statements_of(ast.parse(path.read_text("utf-8")))
    }
    assert found == set()


def statements_of(module: ast.Module) -> set[str]:
    """The arguments of calls that begin like SQL; `select 1` only asks whether a connection lives."""
    constants = {
        argument.value
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }
    return {text for text in constants if SQL.match(text) and text != "select 1"}


def test_sql_in_a_call_is_found() -> None:
    module = ast.parse("fetch('select 1'); fetch('select now()'); say('An update is due.')")
    assert statements_of(module) == {"select now()"}


def test_a_repeated_query_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "twice").mkdir()
    (tmp_path / "twice" / "__init__.py").touch()
    (tmp_path / "twice" / "queries.sql").write_text("-- one --\nselect 1\n-- one --\nselect 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="more than one query one"):
        load_queries("twice")


def test_constants_are_written_into_queries_and_casts_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constants").mkdir()
    (tmp_path / "constants" / "__init__.py").touch()
    (tmp_path / "constants" / "queries.sql").write_text("-- one --\nselect :limit, $1::text\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_queries("constants", constants={"limit": 1.5}).one == "select 1.5, $1::text"
    with pytest.raises(KeyError):
        load_queries("constants")


def test_every_advisory_lock_is_listed() -> None:
    numbers = re.compile(r"advisory\w*lock\w*\((\d+)")
    literal = {
        int(number)
        for file in [*ROOT.glob("*/**/*.sql"), *ROOT.glob("*/**/*.py")]
        if file.relative_to(ROOT).parts[0] in PACKAGES
        for number in numbers.findall(file.read_text(encoding="utf-8"))
    }
    known = set(re.findall(r"^\| (\d+) \|", locks.__doc__ or "", re.MULTILINE))
    assert {str(number) for number in literal} <= known
    assert {str(number) for number in locks.LOCKS.values()} <= known
