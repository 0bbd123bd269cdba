"""What can be told apart: intervals and paired tests over prompts, without a distribution assumed.

All functions are plain: arrays in, arrays out. Random draws are seeded by the number of units
alone, so that the same numbers give the same answer and all methods draw the same prompts.

B. Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7 (1979).
S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statistics 6 (1979).
J. Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006).
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
LEVEL = 0.05
"""What counts as told apart: an adjusted p below it."""
PERCENTILES = (100 * LEVEL / 2, 100 * (1 - LEVEL / 2))
RESAMPLES = 2000
EXACT = 14
"""Up to so many prompts every one of the 2^n sign patterns is tried; above, as many are drawn."""
BLOCK = 128
UNDEFINED = (float("nan"), float("nan"))


def interval(values: ArrayLike, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of the mean of `values` (unit,).

    NaN where there are fewer than two units or one is not a number.
    """
    units = np.asarray(values, dtype=np.float64)
    if units.ndim != 1 or len(units) < 2 or not np.isfinite(units).all():
        return UNDEFINED
    low, high = np.percentile(_weights(len(units), resamples) @ units, PERCENTILES)
    return float(low), float(high)


@cache
def _weights(units: int, resamples: int) -> Values:
    """(resample, unit): how much each unit weighs in each bootstrap draw."""
    generator = np.random.default_rng([units, 1979])
    chosen = generator.integers(units, size=(resamples, units))
    weights = np.zeros((resamples, units))
    np.add.at(weights, (np.arange(resamples)[:, None], chosen), 1 / units)
    weights.flags.writeable = False  # shared by all callers
    return weights


def sign_flip(differences: ArrayLike) -> Values:
    """Return the two-sided p of each row of paired differences (comparison, prompt).

    Permutation test of the mean: if two methods were the same, each prompt's difference would have
    either sign with equal odds. Differences of exactly 0 take part. A row with a value that is not
    a number gives NaN.
    """
    rows = np.atleast_2d(np.asarray(differences, dtype=np.float64))
    count = rows.shape[1]
    if count == 0:
        return np.full(len(rows), np.nan)
    if count <= EXACT:
        patterns = np.arange(2**count)[:, None] >> np.arange(count) & 1
        signs = 1.0 - 2.0 * patterns
    else:
        generator = np.random.default_rng([count, 1935])
        signs = generator.choice([-1.0, 1.0], size=(2**EXACT, count))
        signs[0] = 1.0  # what was observed is one of the patterns, so p is never 0
    observed = np.abs(rows.sum(axis=1))
    tolerance = 1e-9 * np.abs(rows).sum(axis=1)
    reached = np.zeros(len(rows))
    for start in range(0, len(rows), BLOCK):  # bounded memory, however many comparisons
        part = slice(start, start + BLOCK)
        with np.errstate(invalid="ignore"):
            sums = np.abs(signs @ rows[part].T) >= (observed - tolerance)[part]
        reached[part] = sums.mean(axis=0)
    return np.where(np.isfinite(rows).all(axis=1), reached, np.nan)


def smallest_p(prompts: int) -> float:
    """Return the smallest p that `sign_flip` can give: with few prompts nothing can be told."""
    return 2.0 ** (1 - min(prompts, EXACT)) if prompts else 1.0


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
    from scipy.stats import friedmanchisquare

    if scores.shape[0] < 2 or scores.shape[1] < 3 or (scores == scores[:, :1]).all():
        return float("nan")
    return float(friedmanchisquare(*scores.T).pvalue)


def mean_ranks(scores: NDArray[Any]) -> Values:
    """Return each method's mean rank over blocks, 1 the best (largest); ties share their ranks."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-scores, axis=1).mean(axis=0))


def critical_difference(methods: int, blocks: int) -> float:
    """Return by how much two mean ranks have to differ (Nemenyi's test, Demšar 2006, Section 3.2).

    NaN for fewer than two methods or blocks.
    """
    from scipy.stats import studentized_range

    if methods < 2 or blocks < 2:
        return float("nan")
    quantile = float(studentized_range.ppf(1 - LEVEL, methods, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * blocks)))
