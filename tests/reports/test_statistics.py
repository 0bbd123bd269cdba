"""Tests and intervals against scipy's own, and against what can be counted by hand."""

import numpy as np
import pytest
import scipy.stats

from reports.figures.heads import overlap_by_chance
from reports.fronts import front, shares
from reports.statistics import (
    critical_difference,
    friedman,
    holm,
    interval,
    mean_ranks,
    prompts_needed,
    sign_flip,
    smallest_p,
    t_interval,
    values_needed,
)


def test_sign_flip_is_scipys_exact_permutation_test() -> None:
    rows = np.random.default_rng(0).normal(0.4, 1, (4, 9))
    for row, p in zip(rows, sign_flip(rows), strict=True):
        expected = scipy.stats.permutation_test(
            (row,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert p == pytest.approx(expected.pvalue)


def test_sign_flip_of_many_prompts_is_near_the_t_test() -> None:
    row = np.random.default_rng(1).normal(0.3, 1, 60)
    assert sign_flip(row)[0] == pytest.approx(scipy.stats.ttest_1samp(row, 0).pvalue, abs=0.01)


def test_sign_flip_of_nothing_certain_numbers_and_ties() -> None:
    p = sign_flip([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, np.nan, 1.0]])
    np.testing.assert_array_equal(p, [smallest_p(3), 1.0, np.nan])
    assert smallest_p(3) == 0.25
    assert smallest_p(0) == 1
    assert np.isnan(sign_flip(np.zeros((2, 0)))).all()
    assert sign_flip(np.ones(40))[0] == pytest.approx(2.0**-39)  # never certain
    assert sign_flip([[0.5, -0.5, 0.0]])[0] == 1


def test_sign_flip_counts_every_pattern_of_twenty_prompts() -> None:
    row = np.random.default_rng(3).normal(0.5, 1, 20)
    patterns = np.arange(2**20)[:, None] >> np.arange(20) & 1
    sums = np.abs((1.0 - 2.0 * patterns) @ row)
    share = (sums >= abs(row.sum()) - 1e-9).mean()
    assert sign_flip(row)[0] == pytest.approx(share, rel=1e-3)


def test_how_many_prompts_a_family_needs() -> None:
    for comparisons in (1, 37, 103, 10_000):
        needed = prompts_needed(comparisons)
        assert smallest_p(needed) * comparisons < 0.05 <= smallest_p(needed - 1) * comparisons


def test_an_interval_weighs_its_units() -> None:
    values = np.random.default_rng(4).normal(0, 1, 12)
    assert interval(values, np.full(12, 3.0)) == pytest.approx(interval(values))
    weights = np.r_[np.full(6, 9.0), np.ones(6)]
    low, high = interval(values, weights)
    assert low < np.average(values, weights=weights) < high
    assert interval(np.full(12, 2.0), weights) == pytest.approx((2.0, 2.0))


def test_holm_by_hand() -> None:
    # sorted 0.01 x 4, 0.03 x 3, 0.04 x 2, 0.5 x 1; never below an earlier one
    np.testing.assert_allclose(
        holm([0.04, 0.01, np.nan, 0.5, 0.03]), [0.09, 0.04, np.nan, 0.5, 0.09]
    )
    assert holm([]).size == 0


def test_the_interval_is_near_scipys_bootstrap() -> None:
    values = np.random.default_rng(2).exponential(1, 30)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=5000, rng=0
    ).confidence_interval
    assert interval(values) == pytest.approx(tuple(expected), abs=0.05)
    assert interval([2.0, 2.0]) == (2.0, 2.0)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan], [[1.0, 2.0]]])
def test_no_interval_of_too_little(values: list[float]) -> None:
    assert np.isnan(interval(values)).all()


def test_critical_differences_are_those_of_demsars_table() -> None:
    # Demsar 2006, Table 5: q_0.05 is 2.343 for 3 methods and 3.164 for 10
    for methods, quantile in ((3, 2.343), (10, 3.164)):
        expected = quantile * np.sqrt(methods * (methods + 1) / (6 * 20))
        assert critical_difference(methods, 20) == pytest.approx(expected, rel=1e-3)
    assert np.isnan(critical_difference(5, 1))


def test_ranks_and_friedman() -> None:
    scores = np.array([[0.0, -1.0, -1.0], [0.0, -2.0, -1.0], [-1.0, -3.0, -2.0]])
    np.testing.assert_allclose(mean_ranks(scores), [1.0, (2.5 + 3 + 3) / 3, (2.5 + 2 + 2) / 3])
    assert friedman(scores) == pytest.approx(scipy.stats.friedmanchisquare(*scores.T).pvalue)
    assert np.isnan(friedman(np.ones((3, 3))))
    assert np.isnan(friedman(scores[:1]))


@pytest.mark.parametrize("distance", [0.4, 1.0])
def test_values_needed_decide_in_four_of_five_repetitions(distance: float) -> None:
    n = values_needed(1.0, distance)
    assert n is not None
    drawn = np.random.default_rng(0).normal(distance, 1.0, size=(1000, n))
    assert 0.76 < np.mean([t_interval(values).low > 0 for values in drawn]) < 0.88
    assert values_needed(1.0, 0.001) is None


def test_a_front_is_what_nothing_dominates() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        x, y = points = generator.integers(0, 6, size=(2, 12)).astype(float)
        no_worse = (points[:, None] >= points[:, :, None]).all(axis=0)
        better = (points[:, None] > points[:, :, None]).any(axis=0)
        assert front(x, y).tolist() == (~(no_worse & better).any(axis=1)).tolist()
    x, y = np.array([0.0, np.nan, -1.0]), np.array([-1.0, 5.0, 0.0])
    assert front(x, y).tolist() == [True, False, True], "what is undefined is on no front"
    assert shares(["a", "b", "b"], x, y) == {"a": 0.5, "b": 0.5}
    assert np.isnan(shares(["a"], np.array([np.nan]), np.array([0.0]))["a"])


def test_students_interval() -> None:
    values = [0.1, 0.4, 0.2, 0.9]
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = t_interval(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert np.isnan(t_interval([]).mean)


def test_chance_overlap_is_that_of_random_choices() -> None:
    generator = np.random.default_rng(0)
    drawn = [(generator.permutation(30)[:10] < 10).sum() for _ in range(4000)]
    mean, high = overlap_by_chance(10, 30)
    assert mean == pytest.approx(np.mean(drawn), abs=0.1)
    assert high == np.quantile(drawn, 0.95, method="inverted_cdf")
