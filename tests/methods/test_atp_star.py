"""AtPStar against brute force over softmaxes, and against ActivPatch where the rest is linear."""

from typing import Any

import pytest
import torch

from methods.activ_patch import ActivPatch
from methods.atp_star import AtPStar
from methods.attr_patch import AttrPatch
from methods.core.attention import key_effect, query_effect
from methods.local_rules import LocalRules
from tests.methods.small import apart, grid_of, prompts, setting, subject
from tests.methods.test_attr_patch import linear


@pytest.mark.parametrize("n_kv_heads", [4, 2])
def test_effects_are_those_of_every_softmax_computed_anew(n_kv_heads: int) -> None:
    """By loops over queries, heads and keys, with one key patched at a time."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.full((5, 5), -torch.inf, dtype=torch.float64).triu(1)
    scores, other, gradient = (
        3 * torch.randn((2, 4, 5, 5), generator=generator, dtype=torch.float64) for _ in range(3)
    )
    scores, other = scores + mask, other + mask
    pattern = scores.softmax(dim=-1)
    keys = key_effect(pattern, scores, other, gradient, n_kv_heads)
    queries = query_effect(pattern, other.softmax(dim=-1), gradient)
    expected = torch.zeros(2, 5, n_kv_heads, dtype=torch.float64)
    for head in range(4):
        for t in range(5):
            one = scores.clone()
            one[:, head, :, t] = other[:, head, :, t]
            change = (one.softmax(dim=-1) - pattern)[:, head] * gradient[:, head]
            expected[:, t, head // (4 // n_kv_heads)] += change.sum(dim=(1, 2))
    assert apart(keys, expected) < 1e-10
    assert queries.shape == (2, 5, 4)
    assert float(queries[:, 0].abs().max()) == 0  # the first query sees itself alone


@pytest.mark.parametrize(
    ("architecture", "direction"), [("gpt2", "noising"), ("llama", "denoising")]
)
def test_the_fix_is_activation_patching_where_the_rest_is_linear(
    architecture: str, direction: Any
) -> None:
    model, some = linear(architecture, attends=True), prompts()
    grid = grid_of(model, ["q", "k"])
    exact = ActivPatch(direction=direction).fit(model, some, grid, setting()).scores
    fixed = AtPStar(direction=direction, drop=False).fit(model, some, grid, setting()).scores
    plain = AttrPatch(direction=direction).fit(model, some, grid, setting()).scores
    size = float(exact.abs().max())
    assert size > 0.05
    assert apart(fixed, exact) < 1e-3 * size
    assert apart(plain, exact) > 0.02 * size


def test_without_its_fixes_it_is_attribution_patching() -> None:
    model, some = subject("gemma2"), prompts()
    grid = grid_of(model, ["q", "k", "attn_out"])
    plain = AttrPatch().fit(model, some, grid, setting()).scores
    off = AtPStar(fix_attention=False, drop=False).fit(model, some, grid, setting()).scores
    assert torch.equal(plain, off)
    dropped = AtPStar(fix_attention=False).fit(model, some, grid, setting()).scores
    theirs = LocalRules(rules="none", drop=True).fit(model, some, grid, setting()).scores
    assert torch.equal(dropped, theirs)
    whole = AtPStar().fit(model, some, grid, setting()).scores
    assert apart(whole[-1], dropped[-1]) < 1e-6  # attn_out has no query or key
    assert apart(whole[:-1], dropped[:-1]) > 0.01


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma3"])
def test_on_any_model_the_fix_is_nearer_to_activation_patching(architecture: str) -> None:
    model, some = subject(architecture, torch.float64), prompts()
    grid = grid_of(model, ["q", "k"])
    fixed, plain = (
        method.fit(model, some, grid, setting()).scores
        for method in (AtPStar("mean", drop=False), AttrPatch("mean"))
    )
    exact = ActivPatch("mean").fit(model, some, grid, setting()).scores
    ours, theirs = ((found - exact).abs().mean() for found in (fixed, plain))
    assert ours < theirs
