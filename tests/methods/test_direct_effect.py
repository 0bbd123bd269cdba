"""DirectEffect against runs that hold every later layer, and against DLA's strict form."""

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.core.corruption import Contrast, contrasts
from methods.core.hooks import Recorder
from methods.core.points import PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.direct_effect import DirectEffect
from methods.dla import DLA
from tests.methods.small import grid_of, in_turn, largest_difference, prompts, setting, subject


class Held:
    """Patches one place at one position, and holds every later attention and MLP."""

    def __init__(
        self, held: dict[Any, Tensor], site: Site, layer: int, head: int | None, donated: Tensor
    ) -> None:
        self.held, self.site, self.layer, self.head, self.donated = held, site, layer, head, donated
        self.points = [*held, (site, layer)]

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        if (site, layer) == (self.site, self.layer):
            h = h.clone()
            at = (slice(None), -1) if self.head is None else (slice(None), -1, self.head)
            h[at] = self.donated[at]
            return h
        return self.held[site, layer]


def by_holding(model: SubjectModel, some: Prompts, grid: PointGrid, contrast: Contrast) -> Tensor:
    """The direct effect at the answer position from one run a point, (prompt, place, layer)."""
    parallel = bool(model.bridge.cfg.parallel_attn_mlp)
    tokens = contrast.receiver.prompts.tokens
    outputs = [(s, at) for s in (Site.ATTN_OUT, Site.MLP_OUT) for at in range(model.n_layers)]
    seen = Recorder(outputs)
    scores = torch.zeros(len(some), *grid.shape[:2])
    with torch.no_grad():
        ld = some.logit_difference(model.logits(tokens, seen))
        for row, place in enumerate(grid.places):
            for layer in range(model.n_layers):
                donated = contrast.donated[place.site, layer]
                own_mlp = (Site.MLP_OUT, layer)
                behind = own_mlp != (place.site, layer) and not parallel
                later = {
                    point: h
                    for point, h in seen.seen.items()
                    if point[1] > layer or (point == own_mlp and behind)
                }
                edit = Held(later, place.site, layer, place.head, donated)
                patched = some.logit_difference(model.logits(tokens, edit))
                scores[:, row, layer] = contrast.sign * (ld - patched)
    return scores


@pytest.mark.parametrize(
    ("architecture", "direction"),
    in_turn(["gpt2", "gpt_neox", "gemma2"], ["noising", "denoising"]),
)
def test_is_a_patch_with_every_later_layer_held(architecture: str, direction: Any) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, ["z", "attn_out", "mlp_out"], [4, 6])
    (contrast,) = contrasts(model, some, grid, "counterfactual", direction, 0)
    found = DirectEffect(direction=direction).fit(model, some, grid, setting()).prompt_scores
    theirs = by_holding(model, some, grid, contrast)
    assert found is not None
    assert theirs.abs().max() > 0.1
    assert largest_difference(found[..., 1], theirs) < 1e-4
    assert torch.all(found[..., 0] == 0)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama", "gemma2"])
def test_with_the_scale_held_it_is_strict_direct_logit_attribution(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, ["z", "o", "attn_out", "mlp_out"], "every")
    held = DirectEffect("zero", scale="held").fit(model, some, grid, setting())
    strict = DLA(form="strict").fit(model, some, grid, setting())
    assert strict.scores.abs().max() > 0.1
    assert largest_difference(held.scores, strict.scores) < 1e-4
    live = DirectEffect("zero").fit(model, some, grid, setting())
    assert largest_difference(live.scores, strict.scores) > 0.1


def test_against_a_counterfactual_it_is_a_difference_of_two_attributions() -> None:
    """All parts of the stream together: the change of LD at the receiver's scale."""
    model, some = subject("llama"), prompts()
    grid = grid_of(model, ["resid_post"], "last", keep_final_residual=True)
    swapped = Prompts(some.corrupted, some.tokens, some.answers, some.foils, some.has_bos)
    found = DirectEffect(scale="held").fit(model, some, grid, setting()).prompt_scores
    ours, theirs = (
        DLA(form="strict").fit(model, of, grid, setting()).prompt_scores for of in (some, swapped)
    )
    assert found is not None
    assert ours is not None
    assert theirs is not None
    final = (Site.RESID_POST, model.n_layers - 1)
    sizes = [
        model.activations(tokens, [final])[final][:, -1].square().mean(dim=-1).add(1e-6).sqrt()
        for tokens in (some.tokens, some.corrupted)
    ]
    at_our_scale = theirs[:, 0, -1, 0] * sizes[1] / sizes[0]
    assert largest_difference(found[:, 0, -1, 0], ours[:, 0, -1, 0] - at_our_scale) < 1e-4
