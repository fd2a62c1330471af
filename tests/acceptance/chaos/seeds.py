"""How often and with which seeds the scenarios run: CHAOS_SEEDS=1,2,3 selects their long form."""

import os

import pytest

LONG = bool(os.environ.get("CHAOS_SEEDS"))
SEEDS = [int(seed) for seed in os.environ.get("CHAOS_SEEDS", "1").replace(",", " ").split()]

seeded = pytest.mark.parametrize("scenario", SEEDS, indirect=True, ids="seed-{}".format)


def rounds(*, short: int, long: int) -> int:
    """How often a fault is repeated: `short` in `make test`, `long` in `make chaos`."""
    return long if LONG else short
