"""The top-level packages have plain names: nothing installed may stand in front of them."""

import re
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import pytest

from schema.queries import load_queries

ROOT = Path(__file__).parents[2]
PACKAGES = ("runtime", "schema", "broker", "ingestor", "api", "scheduler", "cli")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_the_folder_of_this_repository(name: str) -> None:
    file = import_module(name).__file__
    assert file is not None
    assert Path(file).parent == ROOT / name


@pytest.mark.parametrize(
    "name", [name for name in PACKAGES if (ROOT / name / "queries.sql").exists()]
)
def test_no_query_hides_another_of_the_same_name(name: str) -> None:
    text = (files(name) / "queries.sql").read_text(encoding="utf-8")
    headings = re.findall(r"^-- (\w+) --$", text, re.MULTILINE)
    assert sorted(vars(load_queries(name))) == sorted(headings)
