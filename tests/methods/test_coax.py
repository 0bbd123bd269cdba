"""CoAx against runs in which the strongest points are patched by hand, and on a planted backup."""

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.activ_patch import ActivPatch
from methods.coax import CoAx
from methods.core.corruption import contrasts
from methods.core.paths import Between
from tasks.errors import UserInputError
from tests.methods.small import apart, grid_of, prompt_scores, prompts, setting, subject


@pytest.mark.parametrize(
    ("corruption", "direction"), [("counterfactual", "denoising"), ("zero", "noising")]
)
def test_it_is_the_effect_behind_the_strongest_points_minus_the_effect_alone(
    corruption: Any, direction: Any
) -> None:
    model, some = subject("gemma2"), prompts()
    grid = grid_of(model, ["z", "mlp_out"], [4, 6])
    (contrast,) = contrasts(model, some, grid, corruption, direction, 0)
    tokens = contrast.receiver.prompts.tokens

    def ld(kept: Tensor) -> Tensor:
        with torch.no_grad():
            edit = Between(grid, contrast.donated, kept[None], grid.site_layers)
            return some.logit_difference(model.logits(tokens, edit))

    alone = prompt_scores(ActivPatch(corruption, direction), model, some, grid)
    found = prompt_scores(CoAx(corruption, direction, k=2), model, some, grid)
    strongest = alone.mean(dim=0).flatten().topk(2).indices
    kept = torch.ones(grid.shape)
    kept.view(-1)[strongest] = 0
    base, expected = ld(kept), torch.zeros_like(alone)
    for index in (alone[0] != 0).nonzero().tolist():
        if kept[tuple(index)] == 0:
            continue
        without, at = kept.clone(), (slice(None), *index)
        without[tuple(index)] = 0
        expected[at] = contrast.sign * (base - ld(without)) - alone[at]
    assert expected.abs().max() > 0.05
    assert apart(found, expected) < 1e-4
    assert (found.flatten(1)[:, strongest] == 0).all()


def test_nothing_beside_the_strongest_points_is_said() -> None:
    model = subject("gpt2")
    with pytest.raises(UserInputError, match="beside the 9"):
        CoAx(k=9).fit(model, prompts(), grid_of(model, ["mlp_out"], "last"), setting())
