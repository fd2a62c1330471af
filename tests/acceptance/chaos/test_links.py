"""The links between our roles, PostgreSQL and the broker are cut, silent, slow and clogged."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.acceptance.chaos.conftest import Installation, Scenario, rounds, say, seeded
from tests.acceptance.chaos.installation import RSS_GROWTH_BYTES_MAX
from tests.acceptance.chaos.recovery import (
    publish_more_than_a_window,
    recovery,
    until_noticed,
)
from tests.support.network.proxy import Proxy


@pytest.fixture
def to_postgres(installation: Installation) -> Proxy:
    assert installation.postgres_proxy is not None
    return installation.postgres_proxy


@pytest.fixture
def to_broker(installation: Installation) -> Proxy:
    assert installation.broker_proxy is not None
    return installation.broker_proxy


@seeded
@pytest.mark.chaos_short
@pytest.mark.timeout(300)
def test_a_broker_link_cut_every_two_seconds_loses_and_doubles_nothing(
    installation: Installation, to_broker: Proxy, scenario: Scenario
) -> None:
    with (
        scenario.load(installation, mqtt=60, http=20, outbox=10),
        recovery(installation, scenario),
    ):
        for pause_s in scenario.pauses(rounds(short=2, long=15), 1.0, 3.0):
            time.sleep(pause_s)
            to_broker.reset()
    scenario.finish(installation)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_half_open_broker_link_is_noticed_and_replaced(
    installation: Installation, to_broker: Proxy, scenario: Scenario
) -> None:
    """For a minute nothing passes in either direction, and no connection is closed."""
    with (
        scenario.load(installation, mqtt=60, http=20, outbox=10),
        recovery(installation, scenario),
    ):
        time.sleep(1)
        deadline = time.monotonic() + 60
        to_broker.blackhole()
        until_noticed(installation, "ingest", check="broker", within_s=45)
        say(f"noticed after {60 - (deadline - time.monotonic()):.0f} s")
        time.sleep(max(0, deadline - time.monotonic()))
        to_broker.pass_through()
    scenario.finish(installation)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_slow_link_to_postgresql_in_slices_of_a_byte_only_costs_time(
    installation: Installation, to_postgres: Proxy, scenario: Scenario
) -> None:
    with scenario.load(installation, mqtt=60, http=2, outbox=10), recovery(installation, scenario):
        to_postgres.latency(0.2)
        to_postgres.slice(1)
        time.sleep(20)
        to_postgres.pass_through()
    scenario.finish(installation)


@seeded
@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_links_clogged_one_by_one_and_opened_in_random_order_lose_and_double_nothing(
    installation: Installation, to_postgres: Proxy, to_broker: Proxy, scenario: Scenario
) -> None:
    """Swizzle clogging, after FoundationDB."""
    links = [to_postgres, to_broker]
    deadline = time.monotonic() + 60
    with (
        scenario.load(installation, mqtt=60, http=20, outbox=10),
        recovery(installation, scenario),
    ):
        while time.monotonic() < deadline:
            for act in (Proxy.blackhole, Proxy.pass_through):
                _in_random_order(scenario, links, act)
    scenario.finish(installation)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_messages_that_are_redelivered_again_and_again_do_not_pile_up_in_memory(
    installation: Installation, to_broker: Proxy, scenario: Scenario
) -> None:
    """Without a database for a minute nothing is acknowledged, and each connection redelivers everything.

    Memory is compared with an outage in which the link holds, because a full window needs memory either way.
    """
    with _outage(installation, scenario):
        time.sleep(5)
    installation.drain(scenario.ledger).require_clean()
    full_window = installation.rss()["ingest"]
    with _outage(installation, scenario):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(3)
            to_broker.reset()
            grown = installation.rss()["ingest"] - full_window
            assert grown < RSS_GROWTH_BYTES_MAX, f"{grown >> 20} MiB more"
    scenario.report = report = installation.drain(scenario.ledger)
    grown = installation.rss()["ingest"] - full_window
    say(f"{report}; ingest grew by {grown >> 20} MiB")
    report.require_clean()
    assert grown < RSS_GROWTH_BYTES_MAX


@contextmanager
def _outage(installation: Installation, scenario: Scenario) -> Iterator[None]:
    """Stop PostgreSQL, and queue more messages than the broker delivers at once."""
    load = scenario.load(installation, mqtt=30, http=5, outbox=10)
    with load, recovery(installation, scenario):
        installation.postgres.stop()
        publish_more_than_a_window(installation, scenario)
        yield
        installation.postgres.start()


def _in_random_order(scenario: Scenario, links: list[Proxy], act: Callable[[Proxy], None]) -> None:
    order = scenario.random.sample(links, len(links))
    for link, pause_s in zip(order, scenario.pauses(len(order), 0.5, 6.0), strict=True):
        act(link)
        time.sleep(pause_s)
