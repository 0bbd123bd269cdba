"""HardConcrete: its distribution, its gates as patches, and a circuit that was planted."""

import math
from typing import Any

import pytest
import torch

from bench.models.bridge import boot_bridge, quiet_transformers
from bench.models.tiny import tiny_model, tiny_tokenizer
from methods.core.corruption import contrasts
from methods.core.gates import open_probability, sample, sample_uniform
from methods.core.patches import PatchedRows
from methods.core.paths import Between
from methods.core.points import Site
from methods.core.subject import SubjectModel
from methods.hard_concrete import HardConcrete, UniformGates
from tests.methods.small import apart, grid_of, in_turn, prompts, setting, subject


@pytest.mark.parametrize("log_alpha", [-2.0, 0.0, 3.0])
def test_gates_are_shut_and_open_as_often_as_the_formula_says(log_alpha: float) -> None:
    uniform = torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gates = sample(torch.tensor(log_alpha, dtype=torch.float64), uniform)
    expected = float(open_probability(torch.tensor(log_alpha)))
    assert float((gates > 0).double().mean()) == pytest.approx(expected, abs=5e-3)
    # The stretched sigmoid is over 1 where the uniform number is over a bound of its own.
    bound = 1 / (1 + math.exp(log_alpha - 2 / 3 * math.log(11)))
    assert float((gates == 1).double().mean()) == pytest.approx(1 - bound, abs=5e-3)
    assert (gates >= 0).all()


@pytest.mark.parametrize("theta", [0.1, 0.5, 0.9])
def test_uniform_gates_have_the_mean_and_the_window_of_the_formula(theta: float) -> None:
    uniform = torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_odds = torch.logit(torch.tensor(theta, dtype=torch.float64)).requires_grad_()
    gates = sample_uniform(log_odds, uniform)
    between = (gates > 0) & (gates < 1)
    assert float(gates.detach().mean()) == pytest.approx(theta, abs=5e-3)
    assert float(between.double().mean()) == pytest.approx(theta * (1 - theta), abs=5e-3)
    (slope,) = torch.autograd.grad(gates.mean(), log_odds)
    assert float(slope) == pytest.approx(theta * (1 - theta), rel=0.05), "unbiased"


@pytest.mark.parametrize("corruption", ["counterfactual", "mean"])
def test_a_shut_gate_is_a_patch_and_an_open_one_nothing(corruption: Any) -> None:
    model, some = subject("gemma2"), prompts()
    grid = grid_of(model, ["z", "mlp_out"], [3, 5, 6])
    (contrast,) = contrasts(model, some, grid, corruption, "noising", 0)
    gates = torch.ones(1, *grid.shape)
    head, layer, position = 1, 1, 2
    gates[0, head, layer, position] = 0
    mlp = grid.rows(Site.MLP_OUT).start
    gates[0, mlp, 0, 1] = 0
    rows = torch.arange(len(some))
    patches = {
        (Site.Z, layer): (
            (rows, torch.full_like(rows, 6), torch.full_like(rows, head)),
            contrast.donated[Site.Z, layer][:, 6, head],
        ),
        (Site.MLP_OUT, 0): (
            (rows, torch.full_like(rows, 5)),
            contrast.donated[Site.MLP_OUT, 0][:, 5],
        ),
    }
    with torch.no_grad():
        gated = model.logits(some.tokens, Between(grid, contrast.donated, gates, grid.site_layers))
        patched = model.logits(some.tokens, PatchedRows(patches))
        opened = Between(grid, contrast.donated, torch.ones_like(gates), grid.site_layers)
        assert torch.equal(model.logits(some.tokens, opened), model.logits(some.tokens))
    assert torch.equal(gated, patched)


def planted() -> SubjectModel:
    """A model in which the MLP of layer 1 alone adds anything, and much."""
    model = tiny_model("llama")
    with torch.no_grad():
        for index, layer in enumerate(model.model.layers):
            if index == 1:
                layer.mlp.down_proj.weight.mul_(3)  # far over the price of keeping it
            else:
                layer.mlp.down_proj.weight.zero_()
    with quiet_transformers():
        return SubjectModel(boot_bridge(model, tiny_tokenizer(), "planted"), 500)


@pytest.mark.parametrize(
    ("towards", "kind"), in_turn(["corrupted", "zero", "optimal"], [HardConcrete, UniformGates])
)
def test_it_keeps_what_was_planted_and_shuts_the_rest(towards: Any, kind: Any) -> None:
    model, some = planted(), prompts(4)
    grid = grid_of(model, ["mlp_out"], "last")
    method = kind(towards=towards, lambda_0=0.5)
    found = method.fit(model, some, grid, setting())
    kept, first, last = found.scores[0, 1, 0], found.scores[0, 0, 0], found.scores[0, 2, 0]
    assert kept > 0.9
    assert first < 0.3
    assert last < 0.3
    assert apart(method.kept(found.extras["log_alpha"]), found.scores) == 0


def test_without_a_price_nothing_is_shut() -> None:
    model, some = subject("gpt2"), prompts()
    grid = grid_of(model, ["attn_out", "mlp_out"], "last")
    free = HardConcrete(lambda_0=0.0, steps=10).fit(model, some, grid, setting())
    dear = HardConcrete(lambda_0=100.0, steps=10).fit(model, some, grid, setting())
    assert float(free.scores.mean()) > 0.95
    assert float(dear.scores.mean()) < 0.9
