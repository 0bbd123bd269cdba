"""ChannelScalar: its edit against scalars and gradients, and its scores against what it trained."""

from pathlib import Path

import pytest
import torch

from bench.store.interventions import kind_of, load_intervention, save_intervention
from methods.channel_scalar import ChannelScalar
from methods.core.channel_scaling import ChannelScaling
from methods.core.static_scaling import StaticScaling
from methods.grad_scalar import GradScalar
from tests.methods.small import apart, grid_of, prompts, setting, subject

SITES = ["v", "z", "mlp_out", "resid_post"]


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2"])
def test_equal_scales_of_a_point_are_its_activation_scalar(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, SITES, [3, 6])
    alpha = torch.randn(grid.shape, generator=torch.Generator().manual_seed(0))
    beta = torch.tensor([0.5, -0.5, 1.0])
    scales = ChannelScaling(grid, alpha[..., None].expand(*grid.shape, 32))
    with torch.no_grad():
        by_channel = model.logits(some.tokens, scales.at(beta))
        by_point = model.logits(some.tokens, StaticScaling(grid, alpha).at(beta))
        assert apart(by_channel, by_point) < 1e-5
        assert apart(by_channel, model.logits(some.tokens)) > 0.1


def test_slopes_are_activation_times_gradient_and_add_up_to_grad_scalar() -> None:
    model, some = subject("llama"), prompts(1)
    grid = grid_of(model, SITES, [3, 6])
    scales = ChannelScaling(grid, torch.zeros(*grid.shape, 32))
    ld = some.logit_difference(model.logits(some.tokens, scales.at(torch.ones(1))))
    (slope,) = torch.autograd.grad(ld.sum(), scales.vectors)
    taps = model.activations_and_gradients(some, grid.site_layers)
    for (site, layer), (h, gradient) in taps.items():
        expected = (h * gradient)[0, [3, 6]].reshape(2, -1, h.shape[-1]).movedim(0, 1)
        found = slope[grid.rows(site), layer, :, : h.shape[-1]]
        included = grid.included[grid.rows(site), layer]
        assert apart(found[included], expected[included]) < 1e-5
    scalars = GradScalar().fit(model, some, grid, setting()).scores
    assert apart(slope.sum(dim=-1)[grid.included], scalars[grid.included]) < 1e-4


def test_scores_are_the_norms_of_what_was_trained_and_a_file_holds_it(tmp_path: Path) -> None:
    model = subject("qwen2")
    grid = grid_of(model, ["z", "mlp_out"], [3, 6])
    found = ChannelScalar(epochs=3).fit(model, prompts(), grid, setting())
    scaling = found.intervention
    assert isinstance(scaling, ChannelScaling)
    z = scaling.vectors.detach()[grid.rows(grid.sites[0])]
    assert torch.all(z[..., 8:] == 0), "as wide as a head"
    means = found.extras["mean_scale"][grid.rows(grid.sites[0])]
    assert apart(means, z[..., :8].mean(dim=-1)) < 1e-6
    kept = scaling.keep_largest(1)
    assert isinstance(kept, ChannelScaling)
    assert kept.vectors.norm(dim=-1).max() == found.scores.max()
    assert int((kept.vectors.norm(dim=-1) > 0).sum()) == 1
    save_intervention(scaling, tmp_path / "scales")
    read = load_intervention(tmp_path / "scales")
    assert kind_of(read) == "channel_scaling"
    assert torch.equal(read.theta(), scaling.theta().detach())
