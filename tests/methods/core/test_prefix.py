"""Runs that start behind shared positions, against whole runs."""

import logging
from typing import Any

import pytest
import torch

from bench.models.tiny import ARCHITECTURES, tiny_bridge
from methods.core import prefix as module
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.prefix import Prefix
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from methods.core.subject import SubjectModel
from tests.methods.small import apart, grid_of, make, prompts, subject

SITES = ["z", "attn_out", "mlp_out", "resid_post"]
ROWS = torch.tensor([2, 0, 0, 1])
BETA = torch.tensor([1.0, -1.0, 0.5, 2.0])


KINDS = (StaticScaling, SteeringVectors, DynamicScaling)
POSITIONS: tuple[Any, ...] = ("all", "last", [3, 5])


@pytest.mark.parametrize(
    ("architecture", "positions", "kind"),
    [
        *((one, POSITIONS[at % 3], KINDS[at % 3]) for at, one in enumerate(ARCHITECTURES)),
        ("gemma2", "last", StaticScaling),
        ("gemma3", [3, 5], SteeringVectors),
    ],
)
def test_logits_and_gradients_are_those_of_whole_runs(
    architecture: str, positions: Any, kind: Any
) -> None:
    """Sliding windows of 4 tokens and soft caps included."""
    model, some = subject(architecture), prompts()
    grid = grid_of(model, SITES, positions)
    found, gradients = [], []
    for run in (Prefix(some.tokens), Prefix.of(model, some, grid.positions[0])):
        intervention = make(kind, grid)
        logits = run.steer(model, ROWS, intervention, BETA)
        logits.square().mean().backward()
        found.append(logits)
        gradients += [parameter.grad for parameter in intervention.parameters()]
    assert run.length == (grid.positions[0] if positions != "all" else 0)
    unsteered = model.unsteered_logits(some.tokens)[ROWS]
    assert apart(found[0], unsteered) > 0.05
    assert apart(*found) < 1e-4
    assert apart(*gradients) < 1e-3 * float(gradients[0].abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_few_points_of_a_grid_act_behind_what_none_of_them_reaches(kind: Any) -> None:
    model, some = subject("gemma2"), prompts()
    grid = grid_of(model, ["attn_out", "mlp_out"])
    shared = Prefix.of(model, some, some.n_positions - 1)
    for position in range(1, some.n_positions):
        keep = torch.zeros(grid.shape, dtype=torch.bool)
        keep[0, 1, position], keep[1, 0, -1] = True, True
        few = make(kind, grid).at_points(keep)
        run = shared.until(few.first_position)
        assert run.length == (position if position > 1 else 0)  # one of seven is not worthwhile
        found, whole = (one.steer(model, ROWS, few, BETA) for one in (run, Prefix(some.tokens)))
        assert apart(found, whole) < 1e-4
        assert apart(whole, model.unsteered_logits(some.tokens)[ROWS]) > 1e-3


def test_what_is_shared_is_not_counted_as_rows() -> None:
    """A steered row counts as one, however much of it was run before."""
    model, some = SubjectModel(tiny_bridge("llama")), prompts()
    grid = grid_of(model, ["mlp_out"], "last")
    run = Prefix.of(model, some, grid.positions[0])
    run.steer(model, ROWS, make(StaticScaling, grid), BETA)
    assert model.passes.forward == len(ROWS)


def test_where_memory_is_short_runs_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, some = subject(), prompts()
    grid = grid_of(model, ["mlp_out"], "last")
    assert Prefix.of(model, some, grid.positions[0]).length > 0
    monkeypatch.setattr("methods.core.memory.available_memory", lambda device: 1000)
    assert Prefix.of(model, some, grid.positions[0]).length == 0


def test_a_model_that_cannot_go_on_runs_whole_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, some = SubjectModel(tiny_bridge("gpt2")), prompts()
    grid = grid_of(model, ["mlp_out"], "last")
    real = module._run

    def wrong(*arguments: Any) -> Prefix:
        shared = real(*arguments)
        return Prefix(shared.tokens, shared.length, [2 * k for k in shared.keys], shared.values)

    monkeypatch.setattr(module, "_run", wrong)
    with caplog.at_level(logging.WARNING):
        assert Prefix.of(model, some, grid.positions[0]).length == 0
    assert "GPT2LMHeadModel does not go on from a cache" in caplog.text
    assert model.goes_on_from_a_cache is False
    monkeypatch.setattr(module, "_run", real)
    assert Prefix.of(model, some, grid.positions[0]).length == 0  # not tried again
