"""Rates and percentiles from samples."""

import math
from collections.abc import Sequence

Samples = Sequence[tuple[float, int]]  # (seconds, number done until then), growing, from (0, 0)
SAMPLES_MIN = 10


def whole(samples: Samples) -> float:
    """The rate per second from the first one sent to the last one done."""
    seconds, count = samples[-1]
    return count / seconds


def sustained(samples: Samples) -> float | None:
    """The rate per second between 10 % and 90 % of all; None if the run was too short."""
    total = samples[-1][1]
    if sum(0.1 * total <= count <= 0.9 * total for _, count in samples) < SAMPLES_MIN:
        return None
    return 0.8 * total / (_reached(samples, 0.9 * total) - _reached(samples, 0.1 * total))


def _reached(samples: Samples, count: float) -> float:
    """When `count` were done, by linear interpolation between two samples."""
    after = next(n for n, (_, done) in enumerate(samples) if done >= count)
    (t0, n0), (t1, n1) = samples[after - 1], samples[after]
    return t0 + (t1 - t0) * (count - n0) / (n1 - n0)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
