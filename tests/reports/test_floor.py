"""The floor of a task: what no intervention can flip a prompt for less than."""

import numpy as np
import pytest
from scipy.optimize import minimize

from reports.floor import least_price


@pytest.mark.parametrize("seed", range(4))
def test_no_distribution_with_equal_answers_is_nearer(seed: int) -> None:
    """Against a numerical search over all distributions with q(answer) = q(foil)."""
    p = np.random.default_rng(seed).dirichlet(np.ones(5))

    def divergence(logits: np.ndarray) -> float:
        weights = np.exp(np.append(logits[:1], logits))  # answer and foil alike
        q = weights / weights.sum()
        return float((q * np.log(q / p)).sum())

    found = minimize(divergence, np.zeros(4), method="BFGS", options={"gtol": 1e-9})
    assert least_price(p[:1], p[1:2])[0] == pytest.approx(found.fun, abs=1e-6)


def test_a_model_that_is_indifferent_is_flipped_for_nothing() -> None:
    assert least_price(np.array([0.3]), np.array([0.3])).tolist() == [0]
