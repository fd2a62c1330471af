"""How many connections the embedded broker accepts, by the open files that it may have."""

import resource

import pytest

from broker.embedded import limits

OTHERS = limits.CONNECTIONS_RESERVE + limits.FILES_RESERVE
ENOUGH = limits.CONNECTIONS_MAX + OTHERS


@pytest.mark.parametrize(
    ("soft", "hard", "expected", "raised_to"),
    [
        (1024, 1_048_576, limits.CONNECTIONS_MAX, ENOUGH),
        (1024, 4096, 4096 - OTHERS, 4096),
        (1024, 1024, 1024 - OTHERS, 1024),
        (64, 64, 1, 64),
        (1_048_576, 1_048_576, limits.CONNECTIONS_MAX, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, limits.CONNECTIONS_MAX, None),
        (1024, resource.RLIM_INFINITY, limits.CONNECTIONS_MAX, ENOUGH),
    ],
)
def test_the_limit_of_open_files_is_raised_and_then_respected(
    soft: int, hard: int, expected: int, raised_to: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: calls.append(pair))
    assert limits.connections_max() == expected
    assert calls == ([] if raised_to is None else [(raised_to, hard)])


def test_a_system_that_refuses_more_open_files_keeps_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert limits.connections_max() == 1024 - OTHERS
