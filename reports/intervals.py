"""Means with intervals over refits: draws of prompts, seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; the ends are NaN where one value says nothing of them."""

    mean: float
    low: float
    high: float
    n: int


def t_interval(values: Sequence[float]) -> Interval:
    """Return the mean of independent values with Student's 95 % interval."""
    from scipy.stats import t

    known = np.asarray(values, dtype=float)
    if not known.size:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(known.mean())
    if known.size < 2:
        return Interval(mean, float("nan"), float("nan"), 1)
    half = float(t.ppf(0.975, known.size - 1) * known.std(ddof=1) / known.size**0.5)
    return Interval(mean, mean - half, mean + half, int(known.size))
