"""SADI: its mask is where DiffMeans is largest, and what steers is h + beta m h."""

import torch

from methods.core.static_scaling import StaticScaling
from methods.diff_means import DiffMeans
from methods.sadi import SADI
from tests.methods.small import grid_of, prompts, setting, subject


def test_the_mask_has_the_points_that_differ_most() -> None:
    model = subject("qwen2")
    grid = grid_of(model, ["v", "z", "mlp_out", "resid_post"])
    sizes = DiffMeans().fit(model, prompts(), grid, setting()).scores.masked_fill(~grid.included, 0)
    for k in (1, 5, 16):
        mask = SADI(k).fit(model, prompts(), grid, setting()).scores
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert int(mask.sum()) == k
        assert sizes[mask == 1].min() >= sizes[mask == 0].max()
    alpha = StaticScaling.from_scores(grid, mask).alpha
    assert torch.equal(alpha, mask), "plugged in as they are"
    everything = SADI(10_000).fit(model, prompts(), grid, setting()).scores
    assert torch.equal(everything > 0, (sizes > 0) & grid.included)
