"""The files of the page: complete, our own, and nothing that the content policy would refuse."""

import re
from pathlib import Path
from posixpath import dirname, join, normpath

import pytest

from api.page.files import STATIC, STYLES, PageFiles

SCRIPTS = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js"))
STYLES_IN_PARTS = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.css"))
IMPORT = re.compile(r'^(?:import|export) .*?from "([^"]+)";', re.MULTILINE)
IMPORT_LATER = re.compile(r'import\("([^"]+)"\)')
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


@pytest.mark.parametrize("name", SCRIPTS + STYLES_IN_PARTS)
def test_a_file_is_short_and_begins_with_what_it_is_about(name: str) -> None:
    text = (STATIC / name).read_text("utf-8")
    assert text.startswith(("// ", "/* "))
    assert text.count("\n") <= LINES_MAX


def test_the_index_names_what_the_first_view_needs_and_every_module_is_reached_from_there() -> None:
    page = PageFiles.read()
    index = page.index.decode()
    assert "{{" not in index
    named = set(re.findall(rf"page/{page.content_hash}/([^\"]+)", index))
    assert named <= set(page.files)
    assert "views/fleet/fleet.js" in named
    assert "views/alerts/alerts.js" not in named
    assert not set(SCRIPTS) - reached_from(named)


def reached_from(names: set[str]) -> set[str]:
    """Also through `import()`."""
    seen: set[str] = set()
    while names - seen:
        name = min(names - seen)
        seen.add(name)
        text = (STATIC / name).read_text("utf-8") if name.endswith(".js") else ""
        targets = IMPORT.findall(text) + IMPORT_LATER.findall(text)
        names |= {normpath(join(dirname(name), target)) for target in targets}
    return seen


def test_one_file_holds_all_styles_the_basic_ones_first() -> None:
    page = PageFiles.read()
    styles = page.files[STYLES].content.decode()
    places = [styles.index((STATIC / name).read_text("utf-8")) for name in STYLES_IN_PARTS]
    assert len(set(places)) == len(places)
    assert styles.startswith((STATIC / "styles/colours.css").read_text("utf-8"))
    assert not [name for name in page.files if name in STYLES_IN_PARTS]


def test_a_change_of_any_file_changes_every_address(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("{{folder}}")
    (tmp_path / "a.js").write_text("1")
    before = PageFiles.read(tmp_path)
    (tmp_path / "a.js").write_text("2")
    after = PageFiles.read(tmp_path)
    assert before.content_hash != after.content_hash
    assert before.index == f"page/{before.content_hash}".encode()
