"""Eq. 6 to 9 against plain loops over float64 numbers."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from methods.core.objective import Objective, effectiveness, faithfulness, kl_divergence, minimality

NUMBERS = st.floats(-20, 20, width=32)
LOGITS = st.tuples(st.integers(1, 4), st.integers(2, 9)).flatmap(
    lambda shape: st.tuples(*[arrays(np.float64, shape, elements=NUMBERS)] * 3)
)


def tensor(values: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)


def loop_kl(logits: Any, original: Any) -> float:
    """KL(softmax(logits) || softmax(original)), natural logarithm, summed over the vocabulary."""
    p, q = (np.exp(x - max(x)) / np.exp(x - max(x)).sum() for x in (logits, original))
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)


def loop_e(plus: Any, minus: Any, answers: Any, foils: Any, margin: float) -> float:
    """Eq. 6, over logits at beta = +1 and -1."""
    total = 0.0
    for n, (c, w) in enumerate(zip(answers, foils, strict=True)):
        total += max(0.0, plus[n][w] - plus[n][c] + margin)
        total += max(0.0, minus[n][c] - minus[n][w] + margin)
    return -total / len(answers)


def loop_f(plus: Any, minus: Any, original: Any) -> float:
    """Eq. 7."""
    total = 0.0
    for n in range(len(original)):
        total += loop_kl(plus[n], original[n]) + loop_kl(minus[n], original[n])
    return -total / len(original)


def parts(logits: Any, answers: Any, foils: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """LD at +1 and -1."""
    rows = np.arange(len(answers))
    plus, minus = (tensor(x[rows, answers]) - tensor(x[rows, foils]) for x in logits)
    return plus, minus


@given(logits=LOGITS, margin=st.sampled_from([0.0, 0.5, 1.0, 3.0]), data=st.data())
def test_equations_6_and_7_and_their_sum(logits: Any, margin: float, data: st.DataObject) -> None:
    plus, minus, original = logits
    n, vocabulary = plus.shape
    answers = [data.draw(st.integers(0, vocabulary - 1)) for _ in range(n)]
    foils = [(c + data.draw(st.integers(1, vocabulary - 1))) % vocabulary for c in answers]
    expected_e = loop_e(plus, minus, answers, foils, margin)
    expected_f = loop_f(plus, minus, original)
    ld_plus, ld_minus = parts((plus, minus), answers, foils)
    reference = torch.log_softmax(tensor(original), dim=-1)
    kl_plus, kl_minus = (kl_divergence(tensor(x), reference) for x in (plus, minus))
    lambda_f = 0.7

    near = partial(pytest.approx, rel=1e-4, abs=1e-4)
    e, f = effectiveness(ld_plus, ld_minus, margin), faithfulness(kl_plus, kl_minus)
    assert float(e) == near(expected_e)
    assert float(e) <= 0
    assert float(f) == near(expected_f)
    assert float(f) <= 1e-5
    behaviour = Objective(margin, lambda_f, 100.0).behaviour(ld_plus, ld_minus, kl_plus, kl_minus)
    assert float(behaviour) == near(expected_e + lambda_f * expected_f)


def test_kl_by_the_digits() -> None:
    """KL((3/4, 1/4) || (1/2, 1/2)) in nats; the other order and bits give other numbers."""
    logits = tensor([[math.log(3.0), 0.0]])
    reference = torch.log_softmax(tensor([[0.0, 0.0]]), dim=-1)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(kl_divergence(logits, reference)[0]) == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(0.130812, abs=1e-6)


@given(
    theta=arrays(np.float64, st.integers(1, 20), elements=NUMBERS), p=st.sampled_from([1.0, 2.0])
)
def test_equation_8(theta: Any, p: float) -> None:
    expected = -(sum(abs(x) ** p for x in theta) ** (1 / p))
    assert float(minimality(tensor(theta), p)) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_hinges_have_a_margin_on_both_sides() -> None:
    """The answer ahead by 0.4 at +1, the foil by 2.5 at -1, with m = 1: only the first is short."""
    assert float(effectiveness(tensor([0.4]), tensor([-2.5]), 1.0)) == pytest.approx(-0.6)
    assert float(effectiveness(tensor([2.5]), tensor([-0.4]), 1.0)) == pytest.approx(-0.6)
    assert float(effectiveness(tensor([0.4]), tensor([-2.5]), 0.0)) == 0


def test_leading_axes_are_kept_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    plus, minus, kl_plus, kl_minus = torch.randn((4, 5, 3), generator=generator)
    objective = Objective(1.0, 0.5, 0.0)
    together = objective.behaviour(plus, minus, kl_plus, kl_minus)
    assert together.shape == (5,)
    for row in range(5):
        alone = objective.behaviour(plus[row], minus[row], kl_plus[row], kl_minus[row])
        assert together[row] == pytest.approx(float(alone), abs=1e-6)
