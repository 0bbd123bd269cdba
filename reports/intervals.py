"""Means with intervals over refits: draws of prompts, seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

AT_MOST_0 = (-np.inf, 0.0)
"""What E_0 and F can be."""
AT_MOST_1 = (-np.inf, 1.0)
"""What a share of what is missing can be made up for."""
SHARE = (0.0, 1.0)


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; the ends are NaN where one value says nothing of them."""

    mean: float
    low: float
    high: float
    n: int


def t_interval(
    values: Sequence[float], possible: tuple[float, float] = (-np.inf, np.inf)
) -> Interval:
    """Return the mean of independent values with Student's 95 % interval, cut to `possible`."""
    known = np.asarray(values, dtype=float)
    if not known.size:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(known.mean())
    if known.size < 2:
        return Interval(mean, float("nan"), float("nan"), 1)
    half = float(t.ppf(0.975, known.size - 1) * known.std(ddof=1) / known.size**0.5)
    low, high = np.clip((mean - half, mean + half), *possible)
    return Interval(mean, float(low), float(high), int(known.size))
