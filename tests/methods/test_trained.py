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
from methods.jola import JoLA
from methods.method import Attribution
from methods.steer_vec import SteerVec
from tests.methods.lens import activation, cache_of
from tests.methods.small import apart, grid_of, in_turn, prompts, setting, subject

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


@pytest.mark.parametrize(
    ("method", "score"),
    [
        (ActivScalar(epochs=4), "scalar"),
        (DynScalar(epochs=4), "scalar"),
        (SteerVec(epochs=4, score="added_norm", initial_deviation=0.02), "added"),
        (JoLA(epochs=4), "relative"),
    ],
    ids=str,
)
def test_scores_are_what_the_edit_makes_of_unsteered_activations(method: Any, score: str) -> None:
    model, some, grid, found = fitted(method)
    assert found.intervention is not None
    assert found.scores[grid.included].abs().max() > 1e-3
    assert not found.scores.requires_grad
    edit, cache = found.intervention.at(torch.ones(3)), cache_of(model, some.tokens)
    for site, layer in grid.site_layers:
        h = activation(cache, site, layer)
        with torch.no_grad():
            after = edit(site, layer, h)
        expected = {
            "scalar": ((after - h) * h).sum(dim=-1) / h.square().sum(dim=-1),
            "added": after.norm(dim=-1) - h.norm(dim=-1),
            "relative": (after - h).norm(dim=-1) / h.norm(dim=-1),
        }[score]
        row = grid.sites.index(site)
        at = grid.included[row, layer]
        ours = found.scores[row, layer]
        assert apart(ours[at], expected.mean(dim=0)[at]) < 1e-5
        if found.prompt_scores is not None:
            by_prompt = found.prompt_scores[:, row, layer]
            assert apart(by_prompt[:, at], expected[:, at]) < 1e-5


def test_steering_vectors_are_compared_with_those_before_training() -> None:
    _, _, grid, found = fitted(SteerVec(epochs=4, initial_deviation=0.02))
    before = 0.02 * torch.randn((*grid.shape, 32), generator=torch.Generator().manual_seed(0))
    after = found.intervention.vectors.detach()  # type: ignore[union-attr]
    assert apart(before, after) > 1e-3
    change = after.norm(dim=-1) - before.norm(dim=-1)
    turned = 1 - torch.cosine_similarity(after, before, dim=-1)
    assert apart(found.extras["norm_change"], change) < 1e-5
    assert apart(found.extras["cosine_distance"], turned) < 1e-5
    assert torch.equal(found.scores, found.extras["norm_change"])
    assert found.prompt_scores is None


def test_steering_vectors_ask_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six times four bytes an entry: 12 points of a 3-layer model at one position."""
    model, some = subject(), prompts()
    grid = grid_of(model, positions=[3])
    needed = 6 * 4 * 12 * 32
    monkeypatch.setattr(memory, "available_memory", lambda device: needed - 1)
    with pytest.raises(
        NotEnoughMemoryError, match=r"steering vectors of 12 points and width 32 .* Use fewer sites"
    ):
        SteerVec().fit(model, some, grid, setting())
