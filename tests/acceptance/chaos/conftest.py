"""The harness of the chaos suite: an installation of separate processes, and scenarios that check it.

A scenario in ten lines:

    @seeded  # once per seed; without it, once
    @pytest.mark.chaos  # only in `make chaos`; chaos_short: in `make test`, too
    @pytest.mark.timeout(300)
    def test_a_killed_ingestor_loses_nothing(installation: Installation, scenario: Scenario) -> None:
        with scenario.load(installation, mqtt=60, http=20):
            for pause_s in scenario.pauses(20, 0.3, 2.0):
                time.sleep(pause_s)
                installation.kill("ingest")
                installation.start("ingest")
        scenario.finish(installation)

`installation` is shared by the tests of a file, in `make test` by the whole suite, and is created again after
a test left it unhealthy. Proxies stand before its PostgreSQL and its broker. A test that damages it, or needs
other settings or roles, creates its own: `with install(...) as installation`.
`scenario.finish` drains it and checks everything: the ledger against SQL and the API, health, memory.

CHAOS_SEEDS=1,2,3 sets the seeds, and makes scenarios run in their long form.
CHAOS_AUTH=on turns authentication on in every role and in Mosquitto: load, devices and checks log in.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal

import pytest

from tests.acceptance.chaos.installation import Installation, install
from tests.acceptance.chaos.scenario import HEADINGS, Line, Scenario, say
from tests.acceptance.chaos.seeds import LONG, SEEDS, rounds, seeded
from tests.support.ledger.ledger import Key

LINES = pytest.StashKey[list[Line]]()
CALL = pytest.StashKey[pytest.CallInfo[None]]()


@pytest.fixture
def scenario(request: pytest.FixtureRequest) -> Iterator[Scenario]:
    scenario = Scenario(request.node.name, getattr(request, "param", SEEDS[0]))
    yield scenario
    call = request.node.stash.get(CALL, None)
    outcome = "passed" if call is not None and call.excinfo is None else "FAILED"
    lines = request.config.stash.setdefault(LINES, [])
    lines.append(Line(scenario, outcome, scenario.seconds))


class Site:
    """Holds the shared installation, and replaces it when it is unhealthy."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._installation: Installation | None = None

    def installation(self) -> Installation:
        if self._installation is not None and self._installation.is_healthy():
            return self._installation
        self.clear()
        both = install(with_postgres_proxy=True, with_broker_proxy=True)
        self._installation = self._stack.enter_context(both)
        return self._installation

    def clear(self) -> None:
        self._installation = None
        self._stack.close()


def scope_of_site(fixture_name: str, config: pytest.Config) -> Literal["session", "module"]:
    """In `make test` a single installation has to do; in the long form memory would grow with age."""
    return "module" if LONG else "session"


@pytest.fixture(scope=scope_of_site)
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.clear()


@pytest.fixture
def installation(site: Site, request: pytest.FixtureRequest) -> Iterator[Installation]:
    """It is shared as long as the tests pass."""
    yield site.installation()
    call = request.node.stash.get(CALL, None)
    if call is None or call.excinfo is not None:
        site.clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    yield
    if call.when == "call":
        item.stash[CALL] = call


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    lines = config.stash.get(LINES, [])
    if not lines:
        return
    table = [HEADINGS, *(line.cells() for line in lines)]
    widths = [max(len(row[n]) for row in table) for n in range(len(HEADINGS))]
    terminalreporter.section("chaos")
    for row in table:
        first, *numbers = row
        cells = [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
        terminalreporter.write_line("  ".join([first.ljust(widths[0]), *cells]))


__all__ = [
    "LONG",
    "Installation",
    "Key",
    "Scenario",
    "Site",
    "install",
    "rounds",
    "say",
    "seeded",
]
