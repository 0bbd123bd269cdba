"""beta*: the best strength of the whole curve, on a response whose optimum is known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.evaluation import beta as tuning
from bench.evaluation.beta import tune_beta
from bench.evaluation.prepare import PreparedTask
from bench.evaluation.response import Response
from bench.evaluation.split import respond
from methods.core.objective import Objective
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel

ZERO = torch.zeros(1, 1)
NOTHING = SimpleNamespace(
    unsteered=Response(ZERO[0], *[ZERO] * 5, ZERO[..., None].long(), ZERO[..., None]),
    prompts=[None],
    take=lambda prompts: NOTHING,
)


def curve(monkeypatch: pytest.MonkeyPatch, ld: object, kl: object) -> list[int]:
    """Replaces the model by closed forms of LD and KL in beta; counts the calls' strengths."""
    calls: list[int] = []

    def fake(subject, train, intervention, beta):  # type: ignore[no-untyped-def]
        calls.append(len(beta))
        zeros = torch.zeros(1, len(beta))
        top = torch.zeros(1, len(beta), 1)
        return Response(
            beta, ld(beta.double())[None], zeros, zeros, zeros, kl(beta.double())[None],
            top.long(), top,
        )  # fmt: skip

    monkeypatch.setattr(tuning, "respond", fake)
    return calls


@pytest.mark.parametrize("optimum", [0.037, 1.3, -1.3, -20.0])
def test_the_optimum_is_found_with_its_sign(
    monkeypatch: pytest.MonkeyPatch, optimum: float
) -> None:
    """LD follows the optimum's sign; KL is least at |beta| = |optimum|: an exact maximum."""
    calls = curve(
        monkeypatch,
        lambda beta: 5 * torch.sign(beta * optimum),
        lambda beta: (torch.log10(beta.abs()) - math.log10(abs(optimum))) ** 2,
    )
    found = tune_beta(None, NOTHING, None, Objective())  # type: ignore[arg-type]
    assert found.star == pytest.approx(optimum, rel=0.02)
    assert calls[:3] == [4, 30, 4]
    assert len(calls) <= 5
    assert set(calls[3:]) == {2}
    assert list(found.beta) == sorted(found.beta)
    assert np.nanmax(found.objective) == found.objective[found.beta.index(found.star)]


def test_a_narrow_peak_of_few_prompts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reaches 0 and is 0.4 decades wide at half its height, in a valley below the plateau."""
    for optimum in np.linspace(-0.75, 1.75, 40):

        def kl(beta: torch.Tensor, at: float = optimum) -> torch.Tensor:
            size = torch.log10(beta.abs())
            return (1 + torch.relu(size + 1)) * (1 - torch.exp(-(((size - at) / 0.25) ** 2)))

        curve(monkeypatch, lambda beta: 5 * torch.sign(beta), kl)
        found = tune_beta(None, NOTHING, None, Objective())  # type: ignore[arg-type]
        assert np.nanmax(found.objective) >= -0.1, optimum


def test_ties_go_to_the_smallest_strength_and_what_is_no_number_is_never_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nan = torch.nan
    for ld, low, high in (
        (lambda beta: 0 * beta, 0.01, 0.01),
        (lambda beta: torch.where(beta.abs() > 1, nan, beta), 0.9, 1.0),
        (lambda beta: beta * nan, 0.01, 0.01),
    ):
        curve(monkeypatch, ld, lambda beta: 0 * beta)
        found = tune_beta(None, NOTHING, None, Objective())  # type: ignore[arg-type]
        assert low - 1e-6 < found.star < high + 1e-6
    assert found.objective[0] == -math.inf


def test_on_a_model_beta_star_beats_a_dense_grid(subject: SubjectModel, task: PreparedTask) -> None:
    train, objective = task.train, Objective()
    generator = torch.Generator().manual_seed(5)
    steering = StaticScaling(task.grid, torch.randn(task.grid.shape, generator=generator))
    found = tune_beta(subject, train, steering, objective)
    sizes = torch.logspace(-2, 2, 17)
    dense = respond(subject, train, steering, torch.cat([sizes, -sizes])).behaviour(objective)
    assert np.nanmax(found.objective) >= float(dense.max()) - 1e-5
    again = respond(subject, train, steering, torch.tensor([found.star, -found.star, 1.0]))
    values = dict(zip(found.beta, found.objective, strict=True))
    assert 0 < sum(math.isnan(value) for value in values.values()) < 30
    for size, value in zip(torch.cat([sizes, -sizes]).tolist(), dense.tolist(), strict=True):
        near = min(values, key=lambda beta: abs(beta - size))
        if near == pytest.approx(size, rel=1e-5) and not math.isnan(values[near]):
            assert values[near] == pytest.approx(value, abs=1e-4)
    shared = tune_beta(subject, train, steering, objective, found.response)
    assert np.nanmax(shared.objective) >= np.nanmax(found.objective)
    assert set(found.beta) <= set(shared.beta)
    kept = found.response.select(again.beta)
    torch.testing.assert_close(kept.ld, again.ld, atol=1e-5, rtol=1e-5)
