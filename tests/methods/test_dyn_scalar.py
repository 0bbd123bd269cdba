"""Hidden layers and low rank in Eq. 10: against the formula by hand, and against Eq. 10 itself."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.matrix.cells import expand
from methods.core.attention_output import heads_outputs
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.hidden_scaling import HiddenScaling
from methods.core.objective import Objective
from methods.core.points import PointGrid
from methods.core.training import gradients_of
from methods.dyn_scalar import DynScalar
from tasks.errors import UserInputError
from tasks.registry import configure
from tests.methods.small import (
    against_finite_differences,
    apart,
    grid_of,
    prompts,
    setting,
    subject,
)
from tests.small import small_matrix

UNITS = 3


def scaling(
    grid: PointGrid, activation: str, output: Tensor | None = None, size: float = 1.0
) -> HiddenScaling:
    generator = torch.Generator().manual_seed(1)
    gates = size * torch.randn((*grid.shape[:2], UNITS, 32), generator=generator)
    outer = 0.3 * size * torch.randn((*grid.shape[:2], UNITS), generator=generator)
    return HiddenScaling(grid, gates, outer, output, activation=activation)


@pytest.mark.parametrize("activation", ["tanh", "linear"])
def test_gradients_are_finite_differences_of_the_objective(activation: str) -> None:
    model, some = subject("qwen2"), prompts()
    own = scaling(grid_of(model, ["z", "mlp_out"]), activation, size=0.5)
    objective = Objective(margin=50.0, lambda_f=0.7, lambda_m=0.01)
    against_finite_differences(model, own, some, objective)


@torch.no_grad()
def test_a_linear_layer_and_full_rank_are_equation_10() -> None:
    """g = sum of w_n u_n; gates of any layers are of a rank no larger than their number."""
    model, some = subject("gpt2"), prompts()
    grid = grid_of(model, ["o", "mlp_out"])
    output, beta = heads_outputs(model), torch.tensor([1.0, -1.0, 0.5])
    deep = scaling(grid, "linear", output, size=0.5)
    flat = DynamicScaling(grid, (deep.outer[..., None] * deep.gates).sum(dim=2), output)
    one = HiddenScaling(
        grid, flat.gates[:, :, None], torch.ones((*grid.shape[:2], 1)), output, activation="linear"
    )
    assert torch.equal(one.theta(), flat.theta())
    u, s, v = torch.linalg.svd(flat.gates, full_matrices=False)
    low = HiddenScaling(grid, v[:, None], u * s[:, None], output, activation="linear")
    expected = model.logits(some.tokens, flat.at(beta))
    assert apart(expected, model.logits(some.tokens)) > 0.1
    for same in (deep, one, low):
        assert apart(model.logits(some.tokens, same.at(beta)), expected) < 1e-4
    for any_kind in (deep, low):
        kept = any_kind.keep_largest(10)
        largest = any_kind.theta().abs().sort(descending=True).values[:10]
        assert torch.equal(kept.theta().abs().sort(descending=True).values[:10], largest)
        assert int((kept.theta() != 0).sum()) == 10


@pytest.mark.parametrize(
    "settings", [{"hidden": 4}, {"hidden": 4, "activation": "relu"}, {"rank": 2}]
)
def test_it_trains_and_is_shared_over_positions(settings: dict[str, Any]) -> None:
    model, some = subject("llama"), prompts()
    grid, method = grid_of(model, ["attn_out", "mlp_out"]), DynScalar(epochs=20, **settings)
    own = method.fit(model, some, grid, setting()).intervention
    assert isinstance(own, HiddenScaling)
    assert own.gates.shape[1] == (1 if "rank" in settings else grid.n_layers)
    every, psi = torch.arange(len(some)), []
    for one in (method.untrained(model, grid, setting()), own):
        psi.append(float(gradients_of(model, one, some, Objective(lambda_m=0.0))(every)))
    assert psi[1] > psi[0] + 0.01
    fewer = grid_of(model, ["attn_out", "mlp_out"], [1, 2, 8], n_positions=9)
    h = torch.randn((2, 9, 32), generator=torch.Generator().manual_seed(0))
    site, layer = grid.site_layers[0]
    found = own.on(fewer).alpha(site, layer, h)
    expected = own.alpha(site, layer, h[:, :7])[:, :, 1:3]
    assert apart(found[:, :, :2], expected) < 1e-6
    assert bool((found[:, :, 2] != 0).all())


def test_what_is_not_said_is_no_part_of_a_cell() -> None:
    def cell(**settings: Any) -> Any:
        method = {"name": "dyn_scalar", **settings}
        matrix = small_matrix("x", methods=[method], controls={"draws": 0})
        (found,) = expand(matrix, lambda name: "digest", lambda device: "cpu")
        return found

    usual, named = cell(), cell(hidden=None, rank=None, activation="tanh")
    assert usual.id == named.id
    assert not {"hidden", "rank", "activation"} & set(usual.settings["method"])
    assert cell(hidden=4).settings["method"]["hidden"] == 4
    assert len({cell(hidden=4).id, cell(hidden=4, activation="relu").id, usual.id}) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"hidden": 2, "rank": 2}, "leave one of the two out"), ({"activation": "relu"}, "hidden: 8")],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserInputError, match=words):
        configure(DynScalar, settings, "method")
