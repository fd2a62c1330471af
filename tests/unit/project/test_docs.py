"""The documents agree with the code: settings, reasons, routes, files, versions."""

import re
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from api.app import create_litestar
from api.services import Services
from cli.main import app as cli
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.version import VERSION
from scheduler.run import jobs
from schema.event import Reason
from tests.support.processes.services import PACKAGES, ROOT

DOCS = ROOT / "docs"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("[!.]*/**/*.md")])
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
ONE_PAGE_LINES_MAX = 70
README_LINES_MAX = 150

SETTING = re.compile(r"^\| `([A-Z_]+)` \| (\S+) \|", re.MULTILINE)
EXAMPLE = re.compile(r"^#([A-Z_]+)=(.*)$", re.MULTILINE)
ROUTE = re.compile(r"^\| `([A-Z]+ /\S*)` \|", re.MULTILINE)
REASON = re.compile(r"^\| `(\w+)` \| (?:payload|event) \|", re.MULTILINE)
DECISION = re.compile(r"# (\d+)\. (.+)\n\nDate: (\d{4}-\d\d-\d\d) · Status: (.+)\n")
METRIC = re.compile(r"^\| `(voltwire_\w+)` \|", re.MULTILINE)
NAMED_TEST = re.compile(r"`(test_\w+)`")
TERM = re.compile(r"^\| \*\*(.+?)\*\* \|", re.MULTILINE)
LOCK = re.compile(r"^\| (\d+) \| (?:one|two)", re.MULTILINE)
CONSTANT = re.compile(r"`([A-Z]+(?:_[A-Z]+)+)` in `([\w/]+\.py)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FOLDERS = "|".join([*PACKAGES, "tests", "docs", "benchmarks", "deploy", "examples"])
NAMED_FILE = re.compile(rf"`((?:{FOLDERS})/[\w./-]*)`")
FILE_IN_CODE = re.compile(rf"(?<![\w./-])((?:{FOLDERS})/[\w./-]+\.(?:py|sql|md|js|sh|conf|yml))\b")
CODE = {".py", ".sql", ".sh", ".js", ".css", ".conf", ".yml", ".toml", ".service", ".ino", ".h"}
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def shown(default: object, *, unset: str) -> str:
    """A default as a user would write it into .env."""
    match default:
        case None:
            return unset
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
        case Enum():
            return str(default.value)
        case _:
            return str(default)


def defaults(*, unset: str) -> dict[str, str]:
    fields = Settings.model_fields.items()
    return {name.upper(): shown(field.default, unset=unset) for name, field in fields}


def routes() -> set[str]:
    """Every route of the OpenAPI document; its handlers are never called."""
    nothing: Any = None
    services = Services(**dict.fromkeys(Services.__slots__, nothing))
    paths = create_litestar(Settings(), services).openapi_schema.to_schema()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to headings."""
    text = FENCED.sub("", document.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_documentation_explains_every_setting_with_its_default() -> None:
    found = {name: cell.strip("`") for name, cell in SETTING.findall(read("docs/configuration.md"))}
    assert found == defaults(unset="unset")


def test_the_example_file_shows_every_setting_with_its_default() -> None:
    found = dict(EXAMPLE.findall(read(".env.example")))
    assert {name: found.get(name) for name in defaults(unset="")} == defaults(unset="")


def test_every_reason_of_a_rejection_is_explained() -> None:
    assert REASON.findall(read("docs/http-api.md")) == [str(reason) for reason in Reason]


def test_every_route_is_explained_and_no_other_is() -> None:
    assert set(ROUTE.findall(read("docs/http-api.md"))) == routes()


def metrics() -> set[str]:
    """The names that Prometheus shows."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, tuple(Reason))
    metrics.watch(Health(()))
    suffixes = {"counter": "_total", "info": "_info"}
    return {f"{each.name}{suffixes.get(each.type, '')}" for each in registry.collect()}


def test_every_metric_is_explained_and_no_other_is() -> None:
    assert set(METRIC.findall(read("docs/operations.md"))) == metrics()


def test_every_job_of_the_scheduler_is_named() -> None:
    row = re.search(
        r"^\| `voltwire_job_runs_total` \|.*$", read("docs/operations.md"), re.MULTILINE
    )
    assert row is not None
    named = re.findall(r"`([^`]+)`", row[0].partition(": ")[2])
    assert named == [job.name for job in jobs(Settings(), Metrics())]


def test_every_test_that_a_document_names_exists() -> None:
    tests = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("**/test_*.py"))
    exist = set(re.findall(r"^(?:async )?def (test_\w+)\(", tests, re.MULTILINE))
    named = {name for each in DOCUMENTS for name in NAMED_TEST.findall(each.read_text("utf-8"))}
    assert named - exist == set()


def test_the_failure_modes_are_numbered_without_a_gap() -> None:
    numbers = re.findall(r"^\| (\d+) \|", read("docs/failure-modes.md"), re.MULTILINE)
    assert sorted(map(int, numbers)) == list(range(1, 54))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_relative_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    dead = []
    for link in LINK.findall(FENCED.sub("", document.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_file_of_ours_that_is_named_exists(document: Path) -> None:
    named = NAMED_FILE.findall(document.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_file_of_ours_that_code_names_exists() -> None:
    named = {
        (name, name_of(path))
        for path in ROOT.glob("[!.]*/**/*")
        if path.suffix in CODE and "node_modules" not in path.parts
        for name in FILE_IN_CODE.findall(path.read_text("utf-8"))
    }
    assert named
    assert {(name, where) for name, where in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("decision", DECISIONS, ids=name_of)
def test_a_decision_has_its_four_parts_on_one_page(decision: Path) -> None:
    text = decision.read_text(encoding="utf-8")
    parts = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert parts == ["Objective", "Decision", "Alternatives tried", "Consequences"]
    assert text.count("\n") <= ONE_PAGE_LINES_MAX


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(decision.name[:4]) for decision in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def index_row(decision: Path) -> str:
    """The row of the index for a page, made from the first lines of the page."""
    head = DECISION.match(decision.read_text(encoding="utf-8"))
    assert head is not None, f"{decision.name} must begin with its title, date and status"
    number, title, date, status = head.groups()
    assert int(number) == int(decision.name[:4])
    return f"| [{number}]({decision.name}) | {title} | {date} | {status} |"


def test_the_index_lists_every_decision_with_its_title_date_and_status() -> None:
    rows = re.findall(r"^\| \[.+$", read("docs/decisions/README.md"), re.MULTILINE)
    assert sorted(rows) == sorted(map(index_row, DECISIONS))


def test_the_changelog_begins_with_the_version_of_the_code() -> None:
    versions = re.findall(r"^## \[([^\]]+)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == VERSION


def test_the_limits_that_are_constants_stand_in_the_files_named() -> None:
    named = CONSTANT.findall(read("docs/operations.md"))
    assert named
    missing = [name for name, file in named if not re.search(rf"\b{name}\b.* = ", read(file))]
    assert missing == []


def test_every_command_is_named_where_an_operator_reads() -> None:
    commands = {command.name or "" for command in cli.registered_commands}
    commands |= {
        str(getattr(each.callback, "__name__", "")).replace("_", "-")
        for each in cli.registered_commands
    }
    text = read("README.md") + "".join(read(name_of(path)) for path in DOCS.glob("*.md"))
    assert {name for name in commands - {""} if f"voltwire {name}" not in text} == set()


def test_every_alert_rule_is_explained_and_no_other_is() -> None:
    rules = re.findall(r"alert: (\w+)", read("deploy/prometheus/voltwire.rules.yml"))
    assert re.findall(r"^\| `(Voltwire\w+)` \|", read("docs/operations.md"), re.MULTILINE) == rules


def test_the_license_is_named_where_one_looks_for_it() -> None:
    assert "The Voltwire developers" in read("LICENSE")
    assert 'license = "MIT"' in read("pyproject.toml")
    assert "[LICENSE](LICENSE)" in read("README.md")


def test_nobody_is_told_to_install_a_package_of_our_name() -> None:
    """It is on no index, so somebody else may own it there."""
    code = [path for name in PACKAGES for path in (ROOT / name).glob("**/*.py")]
    advice = re.compile(r"install\b[^\n]*\bvoltwire(?:\[|==|')")
    assert [
        name_of(each) for each in [*DOCUMENTS, *code] if advice.search(each.read_text("utf-8"))
    ] == []


def test_what_needs_mqtt_5_says_that_the_embedded_broker_refuses_it() -> None:
    lines = read("docs/mqtt.md").splitlines()
    needing = [
        n for n, line in enumerate(lines) if line.startswith("mosquitto_") and "-V 5" in line
    ]
    assert needing
    for n in needing:
        assert "the embedded broker of `voltwire up` speaks 3.1.1" in "\n".join(lines[n - 5 : n])


def test_the_contributors_commands_are_targets_of_the_makefile() -> None:
    named = set(re.findall(r"`make ([a-z-]+)`", read("CONTRIBUTING.md")))
    assert named
    assert named <= set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))


def test_the_readme_is_short() -> None:
    assert read("README.md").count("\n") <= README_LINES_MAX


def test_the_index_links_every_document() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall(read("docs/README.md"))}
    assert linked >= {path.name for path in DOCS.glob("*.md") if path.name != "README.md"}


def test_the_glossary_is_sorted_and_explains_each_term_once() -> None:
    terms = TERM.findall(read("CONTRIBUTING.md"))
    assert terms
    assert terms == sorted(set(terms))


def test_the_architecture_names_every_folder_with_code() -> None:
    code = [path for name in PACKAGES for path in (ROOT / name).glob("**/*.py")]
    folders = {name_of(path.parent) + "/" for path in code}
    named = set(re.findall(r"^\| `([\w/]+/)` \|", read("docs/architecture.md"), re.MULTILINE))
    assert folders - named == set()


def test_the_architecture_lists_the_advisory_locks_as_the_code_does() -> None:
    listed = [LOCK.findall(read(name)) for name in ("docs/architecture.md", "schema/locks.py")]
    assert listed[0]
    assert listed[0] == listed[1]
