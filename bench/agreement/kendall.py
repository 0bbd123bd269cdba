"""Kendall's tau-b between two arrays of scores, with ties to rounding. Torch-free.

M. G. Kendall, The treatment of ties in ranking problems, Biometrika 33 (1945).
"""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
TOLERANCE = 1e-6


def kendall(a: Scores, b: Scores, keep: NDArray[np.bool_] | None = None) -> float:
    """Return Kendall's tau-b, in [-1, 1], between two arrays of scores of one shape.

    NaN, which means undefined, where a kept score is NaN or infinite, where all kept scores of one
    array are equal, or where fewer than two are kept.

    Args:
        a: scores of one method.
        b: scores of the other, point by point.
        keep: which points to compare; all if None. Scores count as tied that agree after `rounded`.
    """
    if keep is not None:
        a, b = a[keep], b[keep]
    return tau_of(rounded(np.ravel(a)), rounded(np.ravel(b)))


def rounded(scores: Scores) -> Scores:
    """Return multiples of `TOLERANCE` x the largest |score| of each row (..., point)."""
    largest = np.max(np.abs(scores), axis=-1, keepdims=True, initial=0.0)
    step = np.where(largest > 0, largest, 1.0) * TOLERANCE
    with np.errstate(invalid="ignore"):  # infinite scores: undefined further on
        return np.round(scores / step)


def tau_of(a: Scores, b: Scores) -> float:
    """Return tau-b of one-dimensional scores, rounded before; NaN where one has a problem."""
    from scipy.stats import kendalltau

    if problem_of(a) or problem_of(b):
        return float("nan")
    return float(kendalltau(a, b, variant="b").statistic)


def problem_of(scores: Scores) -> str:
    """Return why these scores rank nothing; "" where they do."""
    if len(scores) < 2:
        return "fewer than two points in common"
    if not np.isfinite(scores).all():
        return "scores that are not numbers"
    return "" if (scores != scores[0]).any() else "the same score everywhere"
