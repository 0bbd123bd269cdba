"""How far two methods agree on where a model does a task, whatever the sign. Torch-free.

Scores without a sign (the norm of a vector) can only be compared by size with those that have one.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.agreement.kendall import Scores, problem_of, rounded, tau_of

PERSISTENCE = 0.9
"""p of the rank-biased overlap: how much of its weight reaches below each rank."""
SHARED = 16
"""How many of the largest scores are compared as sets."""


class Where(NamedTuple):
    """Agreement of the sizes of two methods' scores; NaN where undefined.

    Attributes:
        size_tau: Kendall's tau-b of |score| over all points.
        size_tau_differing: the same over points that differ between clean and corrupted runs.
        weighted_tau: of |score|, with more weight on the largest (Vigna 2015, hyperbolic).
        rank_overlap: rank-biased overlap of the rankings by |score| (Webber et al. 2010).
        shared: share of the largest `SHARED` |score| that both have; of all where there are fewer.
        shared_by_chance: the share that two random rankings would have in common.
    """

    size_tau: float
    size_tau_differing: float
    weighted_tau: float
    rank_overlap: float
    shared: float
    shared_by_chance: float


UNDEFINED = Where(*[float("nan")] * 6)


def agreement_on_where(a: Scores, b: Scores, differs: NDArray[np.bool_]) -> Where:
    """Compare the sizes of two methods' scores over the same points.

    Args:
        a: scores of one method (point,).
        b: scores of the other.
        differs: at which points clean and corrupted runs differ.
    """
    from scipy.stats import weightedtau

    a, b = rounded(np.abs(a)), rounded(np.abs(b))
    if problem_of(a) or problem_of(b):
        return UNDEFINED
    first, second = (np.argsort(-scores, kind="stable") for scores in (a, b))
    k = min(SHARED, len(a))
    return Where(
        size_tau=tau_of(a, b),
        size_tau_differing=tau_of(a[differs], b[differs]),
        weighted_tau=float(weightedtau(a, b).statistic),
        rank_overlap=rank_biased_overlap(first, second),
        shared=len(np.intersect1d(first[:k], second[:k])) / k,
        shared_by_chance=k / len(a),
    )


def rank_biased_overlap(a: NDArray[np.intp], b: NDArray[np.intp], p: float = PERSISTENCE) -> float:
    """Return the overlap of two rankings of the same items, in [0, 1], the first ranks first.

    (1 - p) sum_d p^(d-1) A_d + p^n, where A_d is the share of the first d items that both have and
    n their number: Webber, Moffat and Zobel, A similarity measure for indefinite rankings (ACM TOIS
    2010), Eq. 4 and 23.
    """
    n = len(a)
    place = np.empty((2, n), dtype=np.intp)
    place[0, a] = place[1, b] = np.arange(n)
    both = np.bincount(place.max(axis=0), minlength=n).cumsum()
    depth = np.arange(1, n + 1)
    return float((1 - p) * (p ** (depth - 1) * both / depth).sum() + p**n)
