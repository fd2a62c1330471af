"""A scenario: its seed, its load, its ledgers, its final checks, its line in the table."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from uuid import uuid4

from tests.acceptance.chaos.installation import DRAIN_S_MAX, Installation
from tests.acceptance.chaos.logins import LOAD
from tests.support.ledger.ledger import Ledger, Report, compare
from tests.support.ledger.load import HttpLoad, Load, MqttLoad, OutboxLoad
from tests.support.ledger.payload_mix import PayloadComposer, PayloadMix

DEFAULT_MIX = PayloadMix()


def say(text: object) -> None:
    """Print for the reader of a failure, or of pytest -rP."""
    print(text)  # noqa: T201  # pytest captures it.


class Scenario:
    """One run of a test: its seed and random choices, its ledgers, its line in the table."""

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.seed = name, seed
        self.random = Random(seed)
        self.ledger = Ledger(f"s{seed}-{uuid4().hex[:6]}-")
        self.poisons = Ledger(self.ledger.prefix)
        self.report: Report | None = None
        self._began = time.monotonic()
        say(f"seed {seed}, devices {self.ledger.prefix}*")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def pauses(self, count: int, shortest_s: float, longest_s: float) -> Iterator[float]:
        """`count` random pauses between faults."""
        return (self.random.uniform(shortest_s, longest_s) for _ in range(count))

    def composer(
        self, name: str, *, mix: PayloadMix = DEFAULT_MIX, devices: int = 7
    ) -> PayloadComposer:
        seed = Random(self.random.random())
        return PayloadComposer(self.ledger, self.poisons, seed, mix, name=name, devices=devices)

    @contextmanager
    def load(
        self,
        installation: Installation,
        *,
        mqtt: float = 0,
        http: float = 0,
        outbox: float = 0,
        mix: PayloadMix = DEFAULT_MIX,
    ) -> Iterator[list[Load]]:
        """Start loads with these messages per second, until the block ends and all is answered."""
        port, logins = installation.broker.port, installation.logins
        loads: list[Load] = []
        if mqtt:
            composer = self.composer("m", mix=mix)
            loads.append(MqttLoad(port, mqtt, composer, login=logins.key(LOAD)))
        if http:
            composer = self.composer("h", mix=mix)
            open_client = partial(installation.open_client, LOAD)
            loads.append(HttpLoad(open_client, http, composer, random=self.random))
        if outbox:
            devices = logins.devices([f"{self.ledger.prefix}o{n}" for n in range(4)])
            loads.append(OutboxLoad(port, outbox, self.composer("o", mix=mix), devices=devices))
        with ExitStack() as running:
            for load in loads:
                running.enter_context(load)
            yield loads

    def finish(self, installation: Installation, *, within_s: float = DRAIN_S_MAX) -> Report:
        """Drain and check everything: no event lost or duplicated, health, sums, poison, memory."""
        self.report = installation.drain(self.ledger, within_s)
        say(self.report)
        self.report.require_clean()
        installation.require_same_sums(self.ledger)
        self.require_dead_letters(installation)
        installation.until_healthy()
        installation.require_conservation(settled=True)
        installation.require_flat_memory()
        return self.report

    def require_dead_letters(self, installation: Installation) -> None:
        """Check that every acknowledged poison is a dead letter; one delivered twice may be two."""
        report = compare(self.poisons, installation.dead_letters(self.ledger.prefix))
        say(f"poison: {report}")
        assert not report.lost | report.unexpected, report


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table at the end."""

    scenario: Scenario
    outcome: str
    seconds: float

    def cells(self) -> list[str]:
        report = self.scenario.report
        counts = (
            ["-"] * 6
            if report is None
            else [
                str(number)
                for number in (
                    report.attempted, report.ok, len(report.lost), len(report.duplicated),
                    len(report.unexpected), len(report.recovered),
                )
            ]
        )  # fmt: skip
        name = self.scenario.name.removeprefix("test_").partition("[")[0]
        return [name, str(self.scenario.seed), *counts, f"{self.seconds:.0f}", self.outcome]


HEADINGS = [
    "scenario", "seed", "attempted", "ok", "lost", "duplicated", "unexpected", "recovered",
    "seconds", "outcome",
]  # fmt: skip
