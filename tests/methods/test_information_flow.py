"""InformationFlow against routes that are followed part by part over a threshold."""

from typing import Any

import pytest
from torch import Tensor

from methods.atp_star import AtPStar
from methods.core.attention import UnknownAttentionError
from methods.core.attention_output import UnknownAttentionOutputError
from methods.core.points import Site
from methods.core.subject import SubjectModel
from methods.information_flow import InformationFlow
from tests.methods.lens import cache_of
from tests.methods.small import (
    N_LAYERS,
    N_POSITIONS,
    grid_of,
    in_turn,
    prompt_scores,
    prompts,
    setting,
    subject,
)

Node = tuple[Any, ...]


def followed(model: SubjectModel, prompt: int, threshold: float) -> set[Node]:
    """(site, layer, position, head) of all that is on a route, from TransformerLens's cache."""
    cache = cache_of(model, prompts().tokens)
    on: set[Node] = set()

    def named(name: str, layer: int) -> Tensor:
        found: Tensor = cache[f"blocks.{layer}.{name}"][prompt]
        return found

    def strong(y: Tensor, parts: dict[Node, Tensor]) -> list[Node]:
        near = {
            key: max(0.0, float(y.abs().sum() - (y - f).abs().sum())) for key, f in parts.items()
        }
        return [key for key, value in near.items() if value > threshold * sum(near.values())]

    def heads(layer: int, at: int) -> dict[Node, Tensor]:
        pattern, v = named("attn.hook_pattern", layer), named("attn.hook_v", layer)
        w_o = model.bridge.blocks[layer].attn.W_O
        group = len(pattern) // v.shape[1]
        return {
            (head, source): pattern[head, at, source] * v[source, head // group] @ w_o[head]
            for head in range(len(pattern))
            for source in range(at + 1)
        }

    def visit_middle(layer: int, at: int) -> None:
        on.add((Site.RESID_MID, layer, at))
        before = named("hook_resid_pre", layer)[at]
        y = before + named("hook_attn_out", layer)[at]
        for key in strong(y, {("stream",): before, **heads(layer, at)}):
            if key == ("stream",):
                visit_after(layer - 1, at)
            else:
                on.update([(Site.Z, layer, at, key[0]), (Site.ATTN_OUT, layer, at)])
                on.add((Site.V, layer, key[1], key[0]))
                visit_after(layer - 1, key[1])

    def visit_after(layer: int, at: int) -> None:
        if layer < 0 or (Site.RESID_POST, layer, at) in on:
            return
        on.add((Site.RESID_POST, layer, at))
        middle = named("hook_resid_pre", layer)[at] + named("hook_attn_out", layer)[at]
        mlp = named("hook_mlp_out", layer)[at]
        for key in strong(
            named("hook_resid_post", layer)[at], {("stream",): middle, ("mlp",): mlp}
        ):
            if key == ("mlp",):
                on.add((Site.MLP_OUT, layer, at))
            visit_middle(layer, at)

    visit_after(N_LAYERS - 1, N_POSITIONS - 1)
    return on


@pytest.mark.parametrize(
    ("threshold", "architecture"), in_turn([0.02, 0.06, 0.15, 0.4], ["gpt2", "llama"])
)
def test_points_over_a_threshold_are_those_on_a_route(architecture: str, threshold: float) -> None:
    model = subject(architecture)
    sites = ["v", "z", "attn_out", "resid_mid", "mlp_out", "resid_post"]
    grid = grid_of(model, sites, keep_final_residual=True)
    found = prompt_scores(InformationFlow(), model, prompts(), grid)
    group = 1 if architecture == "gpt2" else 2
    seen = 0
    for prompt, scores in enumerate(found):
        on = followed(model, prompt, threshold)
        seen += len(on)
        for row, place in enumerate(grid.places):
            for layer in range(N_LAYERS):
                for at in range(N_POSITIONS):
                    heads = [place.head] if place.site is Site.Z else range(4)
                    if place.site is Site.V:
                        heads = [head for head in heads if head // group == place.head]
                    names = [(place.site, layer, at, head) for head in heads]
                    expected = (place.site, layer, at) in on or not on.isdisjoint(names)
                    score = float(scores[row, layer, at])
                    assert (score > threshold) == expected or abs(score - threshold) < 1e-4
    assert seen > 6


@pytest.mark.parametrize("method", [InformationFlow(), AtPStar(drop=False)], ids=str)
def test_attention_that_cannot_be_seen_is_said(method: Any) -> None:
    model = subject("llama")
    grid = grid_of(model, sorted({"k", "v"} & method.sites))
    name = "blocks.1.attn.hook_pattern"
    model.points_by_name = {at: one for at, one in model.points_by_name.items() if at != name}
    with pytest.raises(UnknownAttentionError, match=name):
        method.fit(model, prompts(), grid, setting())


def test_heads_that_do_not_add_up_are_said() -> None:
    model = subject("llama")
    with (
        model.attached([("blocks.1.attn.hook_pattern", lambda h, hook: h * 1.1)]),
        model.attached([("blocks.1.hook_attn_out", lambda h, hook: h / 1.1)]),
        pytest.raises(UnknownAttentionOutputError, match="layer 1"),
    ):
        InformationFlow().fit(model, prompts(), grid_of(model, ["v"]), setting())
