"""What can be told apart: intervals and paired tests over prompts, and means over refits.

All functions are plain: arrays in, arrays out. The bootstrap's draws are seeded by the number of
units alone, so that the same numbers give the same answer and all methods draw the same prompts.

B. Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7 (1979).
S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statistics 6 (1979).
M. Pagano and D. Tritchler, On obtaining permutation distributions in polynomial time, Journal of
the American Statistical Association 78 (1983).
J. Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from math import inf
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import friedmanchisquare, rankdata, studentized_range
from scipy.stats import t as student

Values = NDArray[np.float64]
LEVEL = 0.05
"""What counts as told apart: an adjusted p below it."""
PERCENTILES = (100 * LEVEL / 2, 100 * (1 - LEVEL / 2))
RESAMPLES = 2000
COUNTED = 2**20
"""Steps x prompts of the permutation test's grid, where 32 steps a prompt are not more."""
UNDEFINED = (float("nan"), float("nan"))
AT_MOST_0 = (-inf, 0.0)
"""What E_0 and F can be."""
AT_MOST_1 = (-inf, 1.0)
"""What a share of what is missing can be made up for."""
SHARE = (0.0, 1.0)
POWER = 0.8
"""Share of repetitions that are to decide."""
MOST_VALUES = 1000
"""Nobody repeats more often."""


def interval(values: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of the mean of `values` (unit,), weighted by `weights`.

    NaN where there are fewer than two units or one is not a number.
    """
    units = np.asarray(values, dtype=np.float64)
    if units.ndim != 1 or len(units) < 2 or not np.isfinite(units).all():
        return UNDEFINED
    weighs = np.ones(len(units)) if weights is None else np.asarray(weights) / np.max(weights)
    drawn = bootstrap_weights(len(units))
    low, high = np.percentile((drawn @ (weighs * units)) / (drawn @ weighs), PERCENTILES)
    return float(low), float(high)


@cache
def bootstrap_weights(units: int) -> Values:
    """Return (resample, unit): how much each unit weighs in each bootstrap draw."""
    generator = np.random.default_rng([units, 1979])
    chosen = generator.integers(units, size=(RESAMPLES, units))
    weights = np.zeros(chosen.shape)
    np.add.at(weights, (np.arange(RESAMPLES)[:, None], chosen), 1 / units)
    weights.flags.writeable = False  # shared by all callers
    return weights


def sign_flip(differences: ArrayLike) -> Values:
    """Return the two-sided p of each row of paired differences (comparison, prompt).

    Permutation test of the mean: if two methods were the same, each prompt's difference would have
    either sign with equal odds. All 2^n sign patterns are counted, however many prompts there are
    (see `_share_as_large`). Differences of exactly 0 take part. A row with a value that is not a
    number gives NaN.
    """
    rows = np.atleast_2d(np.asarray(differences, dtype=np.float64))
    return np.array([_share_as_large(row) for row in rows])


def _share_as_large(row: Values) -> float:
    """The share of sign patterns whose |sum| is at least that of `row` (prompt,).

    The sums are counted on a grid (Pagano and Tritchler 1983): differences are rounded to steps
    of which all together make at least 32 a prompt, and the number of patterns that reach each sum
    is built up prompt by prompt. The steps do not depend on the signs, so that the test is exact
    for the rounded differences.
    """
    sizes = np.abs(row)
    if not len(row) or not np.isfinite(row).all():
        return float("nan")
    if not sizes.any():
        return 1.0
    n_steps = max(COUNTED // len(row), 32 * len(row))
    steps = np.round(sizes / sizes.sum() * n_steps).astype(np.int64)
    observed = abs(int((np.sign(row) * steps).sum()))
    if observed == 0:
        return 1.0
    total = int(steps.sum())
    share = np.zeros(total + 1)  # of the patterns in which the positive steps make so many
    share[0], top = 1.0, 0
    for step in np.sort(steps[steps > 0]):
        moved = share[: top + 1] / 2
        share[: top + 1] /= 2
        share[step : step + top + 1] += moved
        top += int(step)
    return float(min(1.0, 2 * share[(total + observed) // 2 :].sum()))


def smallest_p(prompts: int) -> float:
    """Return the smallest p that `sign_flip` can give: with few prompts nothing can be told."""
    return float(2.0 ** (1 - prompts)) if prompts else 1.0


def prompts_needed(comparisons: int) -> int:
    """Return how many prompts a family of tests needs for its smallest adjusted p to be told."""
    return next(n for n in count(1) if smallest_p(n) * comparisons < LEVEL)


def holm(p: ArrayLike) -> Values:
    """Return Holm's adjusted p of one family of tests; NaN stays NaN and is not counted."""
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return adjusted


def friedman(scores: NDArray[Any]) -> float:
    """Return the p of Friedman's test that all methods rank alike; scores (block, method).

    NaN where there are fewer than two blocks or three methods, or all scores are equal.
    """
    if scores.shape[0] < 2 or scores.shape[1] < 3 or (scores == scores[:, :1]).all():
        return float("nan")
    return float(friedmanchisquare(*scores.T).pvalue)


def mean_ranks(scores: NDArray[Any]) -> Values:
    """Return each method's mean rank over blocks, 1 the best (largest); ties share their ranks."""
    return np.asarray(rankdata(-scores, axis=1).mean(axis=0))


def critical_difference(methods: int, blocks: int) -> float:
    """Return by how much two mean ranks have to differ (Nemenyi's test, Demšar 2006, Section 3.2).

    NaN for fewer than two methods or blocks.
    """
    if methods < 2 or blocks < 2:
        return float("nan")
    quantile = float(studentized_range.ppf(1 - LEVEL, methods, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * blocks)))


def means_of(rows: Sequence[Any], names: Iterable[str]) -> dict[str, float]:
    """Return the mean of each of these attributes over rows."""
    return {name: float(np.mean([getattr(row, name) for row in rows])) for name in names}


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; the ends are NaN where one value says nothing of them.

    Attributes:
        n: how many values.
        deviation: their standard deviation.
    """

    mean: float
    low: float
    high: float
    n: int
    deviation: float = float("nan")


def t_interval(values: ArrayLike, possible: tuple[float, float] = (-inf, inf)) -> Interval:
    """Return the mean of independent values with Student's 95 % interval, cut to `possible`."""
    known = np.asarray(values, dtype=float)
    if not known.size:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(known.mean())
    if known.size < 2:
        return Interval(mean, float("nan"), float("nan"), 1)
    deviation = float(known.std(ddof=1))
    half = float(student.ppf(0.975, known.size - 1) * deviation / known.size**0.5)
    low, high = np.clip((mean - half, mean + half), *possible)
    return Interval(mean, float(low), float(high), int(known.size), deviation)


def values_needed(deviation: float, distance: float) -> int | None:
    """Return how many independent values put a bound outside Student's 95 % interval of their mean.

    In four of five repetitions, if they are normal: the smallest n with (t_0.975 + t_0.8) s /
    sqrt(n) at most the distance, t of n - 1 degrees of freedom (J. Cohen, Statistical power
    analysis for the behavioral sciences, 2nd ed. 1988, Chapter 2). None beyond `MOST_VALUES`.

    Args:
        deviation: the standard deviation s of one value.
        distance: from the mean to the bound.
    """
    n = np.arange(2, MOST_VALUES + 1)
    reach = student.ppf(0.975, n - 1) + student.ppf(POWER, n - 1)
    enough = n[reach * deviation <= distance * n**0.5]
    return int(enough[0]) if distance > 0 and len(enough) else None
