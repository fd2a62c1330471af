"""The files of the page: complete, our own, and nothing that the content policy would refuse."""

import re
from pathlib import Path

import pytest

from api.page.files import STATIC, PageFiles

SCRIPTS = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js"))
STYLES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.css"))
IMPORT = re.compile(r'^(?:import|export) .*?from "([^"]+)";', re.MULTILINE)
FOREIGN = re.compile(r"""(?:from|import\(|fetch\(|(?:src|href)["']?[:=,])\s*["'`]https?://""")
LINES_MAX = 300
# Ways in which text becomes HTML or code, and styles that the policy refuses.
UNSAFE = (
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "new Function",
    'setAttribute("style"',
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_module_imports_files_that_exist_and_makes_no_text_into_html(name: str) -> None:
    text = (STATIC / name).read_text("utf-8")
    for target in IMPORT.findall(text):
        assert ((STATIC / name).parent / target).resolve().is_file(), target
    assert not [each for each in UNSAFE if each in text]
    assert not FOREIGN.findall(text)


@pytest.mark.parametrize("name", SCRIPTS + STYLES)
def test_a_file_is_short_and_begins_with_what_it_is_about(name: str) -> None:
    text = (STATIC / name).read_text("utf-8")
    assert text.startswith(("// ", "/* "))
    assert text.count("\n") <= LINES_MAX


def test_every_file_is_reached_from_the_index() -> None:
    page = PageFiles.read()
    index = page.index.decode()
    assert "{{" not in index
    named = re.findall(rf"page/{page.content_hash}/([^\"]+)", index)
    assert {name for name in page.files if not name.endswith(".svg")} <= set(named)
    assert set(named) <= set(page.files)


def test_a_change_of_any_file_changes_every_address(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("{{folder}}")
    (tmp_path / "a.js").write_text("1")
    before = PageFiles.read(tmp_path)
    (tmp_path / "a.js").write_text("2")
    after = PageFiles.read(tmp_path)
    assert before.content_hash != after.content_hash
    assert before.index == f"page/{before.content_hash}".encode()
