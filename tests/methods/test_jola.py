"""JoLA: its edit in hooks, its gates where one of its two edits alone can serve."""

from typing import Any

import pytest
import torch

from methods.core.channel_scaling import ChannelScaling
from methods.core.gated_editing import GatedEditing
from methods.core.objective import Objective
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.steering_vectors import SteeringVectors
from methods.jola import JoLA
from tests.methods.small import against_finite_differences, grid_of, prompts, setting, subject
from tests.methods.test_attr_patch import linear

BETA = torch.tensor([1.0, -1.0, 0.5])


def editing(grid: PointGrid, log_alpha: Any = None) -> GatedEditing:
    generator = torch.Generator().manual_seed(1)
    vectors, scales = 0.5 * torch.randn((2, *grid.shape, 32), generator=generator)
    gates = 2 * torch.randn((*grid.shape, 2), generator=generator)
    if log_alpha is not None:
        gates = torch.tensor(log_alpha).expand(*grid.shape, 2)
    return GatedEditing(grid, vectors, scales, gates)


@torch.no_grad()
def test_one_gate_open_is_a_steering_vector_or_channel_scales_and_none_is_nothing() -> None:
    model, some = subject("qwen2"), prompts()
    grid = grid_of(model, ["z", "mlp_out"], [3, 6])
    shut, adds, scales = (
        editing(grid, gates) for gates in ((-9.0, -9.0), (9.0, -9.0), (-9.0, 9.0))
    )
    for found, expected in (
        (adds, SteeringVectors(grid, adds.vectors).at(BETA)),
        (scales, ChannelScaling(grid, scales.scales).at(BETA)),
        (shut, None),
    ):
        steered = model.logits(some.tokens, found.at(BETA))
        assert torch.equal(steered, model.logits(some.tokens, expected))
    alone = SteeringVectors(grid, adds.vectors).theta()
    assert torch.equal(adds.theta(), torch.cat([alone, torch.zeros_like(alone)]))
    assert not shut.theta().any()


def test_gradients_are_finite_differences_with_gates_as_drawn() -> None:
    model = subject("llama")
    own = editing(grid_of(model, ["z", "mlp_out"], [3, 6]))
    own.draw(torch.Generator().manual_seed(5))
    against_finite_differences(model, own, prompts(), Objective(margin=50.0, lambda_m=0.01))


def test_closed_gates_change_nothing() -> None:
    model, some = subject("llama"), prompts()
    grid = grid_of(model, ["attn_out", "mlp_out"])
    found = JoLA(epochs=4).fit(model, some, grid, setting())
    assert bool((found.scores <= found.extras["added"] + found.extras["scaled"] + 1e-6).all())
    dear = JoLA(lambda_0=1e5).fit(model, some, grid, setting())
    assert not dear.scores.any()
    assert not dear.intervention.theta().any()  # type: ignore[union-attr]


@pytest.mark.parametrize("serves", ["scaling", "adding"])
def test_gates_choose_the_edit_that_can_serve(serves: str) -> None:
    """Two prompts that want the opposite of one direction: in a linear model what is added to both
    helps one as much as it harms the other, and scales tell them apart. An activation of 0: there
    is nothing to scale."""
    model, some = linear("gpt2"), prompts()
    x, y = some.answers[:1], some.foils[:1]
    if serves == "scaling":
        some = Prompts(some.tokens[:2], some.tokens[:2], torch.cat([x, y]), torch.cat([y, x]), True)
    else:
        some = Prompts(some.tokens[:1], some.tokens[:1], x, y, True)
        with torch.no_grad():
            for name, parameter in model.bridge.original_model.named_parameters():
                if "mlp" in name and "c_proj" in name:
                    parameter.zero_()
    grid = grid_of(model, ["mlp_out"], [6])
    usual = setting(margin=50.0, lambda_f=0.0, lambda_m=0.0)
    found = JoLA(epochs=40, lambda_0=0.1).fit(model, some, grid, usual)
    gates = {name: found.extras[f"gate_{name}"] for name in ("scaling", "adding")}
    assert bool((gates.pop(serves) == 1).any())
    (other,) = gates.values()
    assert not other.any()
