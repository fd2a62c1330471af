"""The check `storing` and its log lines: "again" is said only after a commit of whoever failed."""

import pytest

from ingestor import retry
from ingestor.retry import CHECK, StoreRetry
from runtime.errors import StoreUnavailable
from runtime.health import Health


class StaleError(Exception):
    """The batch must be checked again: says nothing of the database."""


class Writer:
    """Fails as told, one outcome after another."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self._outcomes = list(outcomes)

    async def write(self) -> str:
        outcome = self._outcomes.pop(0)
        if outcome is not None:
            raise outcome
        return "committed"


DENIED = StoreUnavailable("42501: permission denied for sequence incident_no")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAIT_S_FIRST", "WAIT_S_MAX"):
        monkeypatch.setattr(retry, name, 0.001)


def storing(health: Health) -> bool:
    return health.checks[CHECK][0]


async def test_a_batch_that_is_checked_again_between_its_failures_is_one_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    health = Health((CHECK,))
    retrying, other = StoreRetry(health), Writer(*[None] * 20)
    stuck = Writer(*[DENIED, StaleError()] * 10, DENIED, None)
    for _ in range(10):
        with pytest.raises(StaleError):
            await retrying(stuck.write, by=stuck)
        assert await retrying(other.write, by=other) == "committed"
        assert not storing(health), "another writer commits, and this one is stuck"
    assert await retrying(stuck.write, by=stuck) == "committed"
    assert storing(health)
    lines = capsys.readouterr().out.splitlines()
    assert sum("Nothing can be stored" in line for line in lines) == 1
    assert sum("writes again" in line for line in lines) == 1


async def test_the_check_fails_until_everybody_who_failed_has_committed() -> None:
    health = Health((CHECK,))
    retrying = StoreRetry(health)
    one, two = Writer(DENIED, StaleError(), None), Writer(DENIED, StaleError(), None)
    for writer in (one, two):
        with pytest.raises(StaleError):
            await retrying(writer.write, by=writer)
    await retrying(one.write, by=one)
    assert not storing(health)
    await retrying(two.write, by=two)
    assert storing(health)
