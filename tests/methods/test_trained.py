"""The trained methods: what their scores are made of, and what they report of their training."""

from typing import Any

import pytest
import torch

from bench.models.tiny import ARCHITECTURES
from methods.activ_scalar import ActivScalar
from methods.channel_scalar import ChannelScalar
from methods.core import memory
from methods.core.memory import NotEnoughMemoryError
from methods.core.objective import Objective, effectiveness
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.dyn_scalar import DynScalar
from methods.grad_scalar import GradScalar
from methods.jola import JoLA
from methods.method import Attribution
from methods.steer_vec import SteerVec
from tests.methods.small import (
    activation,
    cache_of,
    grid_of,
    in_turn,
    largest_difference,
    prompts,
    setting,
    subject,
)

METHODS = (ActivScalar, SteerVec, DynScalar, ChannelScalar, JoLA)


def fitted(method: Any, seed: int = 0) -> tuple[SubjectModel, Prompts, PointGrid, Attribution]:
    model, some = subject("llama"), prompts()
    grid = grid_of(model)
    return model, some, grid, method.fit(model, some, grid, setting(seed))


@pytest.mark.parametrize(("architecture", "cls"), in_turn(ARCHITECTURES, METHODS))
def test_training_steers(architecture: str, cls: Any) -> None:
    """E_0 of the trained intervention at +-1 is above the unsteered model's."""
    model, some = subject(architecture), prompts()
    found = cls().fit(model, some, grid_of(model), setting())
    with torch.no_grad():
        plain = some.logit_difference(model.logits(some.tokens))
        plus, minus = (
            some.logit_difference(
                model.logits(some.tokens, found.intervention.at(torch.full((3,), sign)))
            )
            for sign in (1.0, -1.0)
        )
    before, after = effectiveness(plain, plain, 0.0), effectiveness(plus, minus, 0.0)
    assert before < -0.2
    assert after > 0.75 * before


@pytest.mark.parametrize("cls", METHODS)
def test_steps_and_reach_are_those_of_adam(cls: Any) -> None:
    _, _, _, found = fitted(cls(epochs=3, batch_size=2, learning_rate=0.004))
    assert found.steps == 6
    assert found.reach == pytest.approx(0.024)
    with torch.no_grad():
        # From 1e-5, by about the learning rate a step.
        largest = float(found.intervention.theta().abs().max())
    assert 0.004 < largest < 1.5 * found.reach


@pytest.mark.parametrize("cls", METHODS)
def test_defaults_are_those_of_the_specification(cls: Any) -> None:
    method = cls()
    assert method.epochs == 25
    assert method.batch_size is None
    assert method.initial_deviation == 1e-5
    assert method.learning_rate == (1e-3 if cls is SteerVec else 1e-2)
    assert (Objective().margin, Objective().lambda_f, Objective().lambda_m) == (1.0, 1.0, 1e-3)


def test_activation_scalars_are_the_scores() -> None:
    _, _, grid, found = fitted(ActivScalar(epochs=4))
    assert torch.equal(found.scores, found.intervention.alpha.detach())
    assert found.prompt_scores is None
    assert found.scores[grid.included].abs().max() > 0.01
    assert not found.scores.requires_grad


def test_a_positive_scalar_favours_the_answer() -> None:
    """Right after the first step, where signs are those of the derivative of LD."""
    model, some = subject("llama"), prompts(1)
    grid = grid_of(model)
    # Both hinges at work: the margin is far above any LD.
    trained = ActivScalar(epochs=1).fit(model, some, grid, setting(margin=50.0, lambda_m=0.0))
    derivative = GradScalar().fit(model, some, grid, setting()).scores[grid.included]
    clear = derivative.abs() > 0.05 * derivative.abs().max()
    signs = trained.scores[grid.included].sign()
    assert int(clear.sum()) > 10
    assert torch.equal(signs[clear], derivative[clear].sign())


@pytest.mark.parametrize("score", ["norm_change", "added_norm"])
def test_steering_vectors_are_scored_by_their_norms(score: Any) -> None:
    model, some, grid, found = fitted(SteerVec(epochs=4, score=score, initial_deviation=0.02))
    before = 0.02 * torch.randn((*grid.shape, 32), generator=torch.Generator().manual_seed(0))
    after = found.intervention.vectors.detach()
    assert largest_difference(before, after) > 1e-3
    cache = cache_of(model, some.tokens)
    for s, site in enumerate(grid.sites):
        for layer in range(grid.n_layers):
            h = activation(cache, site, layer)
            for p, position in enumerate(grid.positions):
                v, u = after[s, layer, p], before[s, layer, p]
                change = float(v.norm() - u.norm())
                added = sum(
                    float((h[n, position] + v).norm() - h[n, position].norm()) for n in range(3)
                )
                cosine = float(v @ u / (v.norm() * u.norm()))
                expected = {
                    "norm_change": change,
                    "added_norm": added / 3,
                    "cosine_distance": 1 - cosine,
                }
                for name, value in expected.items():
                    at = float(found.extras[name][s, layer, p])
                    assert at == pytest.approx(value, abs=1e-5)
    assert torch.equal(found.scores, found.extras[score])
    assert (found.prompt_scores is None) == (score == "norm_change")


def test_steering_vectors_ask_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six times four bytes an entry: 12 points of a 3-layer model at one position."""
    model, some = subject(), prompts()
    grid = grid_of(model, positions=[3])
    needed = 6 * 4 * 12 * 32
    monkeypatch.setattr(memory, "available_memory", lambda device: needed - 1)
    with pytest.raises(
        NotEnoughMemoryError,
        match=r"steering vectors of 12 points and width 32 .* Use fewer sites",
    ):
        SteerVec().fit(model, some, grid, setting())


def test_dynamic_scalars_are_scored_at_the_unsteered_activations() -> None:
    model, some, grid, found = fitted(DynScalar(epochs=4))
    gates = found.intervention.gates.detach()
    cache = cache_of(model, some.tokens)
    assert found.prompt_scores is not None
    for s, site in enumerate(grid.sites):
        for layer in range(grid.n_layers):
            h = activation(cache, site, layer)
            expected = (h @ gates[s, layer]) / h.norm(dim=-1)
            expected = expected * grid.included[s, layer]
            expected[:, 0] = 0  # the BOS, which dynamic scalars leave alone
            assert largest_difference(found.prompt_scores[:, s, layer], expected) < 1e-5
    assert torch.equal(found.scores, found.prompt_scores.mean(dim=0))
