"""Runs through circuits, against a plain loop over hooks that shares nothing with them."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.conformance.small import grid_on, tiny_prompts, tiny_subject
from methods.core.circuits import CircuitRuns, node_grid, node_scores
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError


def plain_ld(subject: SubjectModel, prompts: Prompts, every: Tensor, heads: bool) -> Tensor:
    """(circuit, prompt) by hooks alone, a prompt at a time; `every` is (circuit, place, layer)."""
    found = torch.zeros(len(every), len(prompts))
    for n in range(len(prompts)):
        tokens = prompts.tokens[n : n + 1], prompts.corrupted[n : n + 1]
        ours, stored = (subject.bridge.run_with_cache(one)[1] for one in tokens)
        for row, kept in enumerate(every):
            with subject.bridge.hooks(fwd_hooks=plain_hooks(ours, stored, kept, heads)):
                logits = subject.bridge(tokens[0])[0, -1]
            found[row, n] = logits[prompts.answers[n]] - logits[prompts.foils[n]]
    return found


def plain_hooks(ours: Any, stored: Any, kept: Tensor, heads: bool) -> list[Any]:
    """Hooks that set the nodes of one prompt that are not kept to the corrupted run's."""
    layers = kept.shape[1]

    def attention(h: Tensor, hook: Any, layer: int, name: str) -> Tensor:
        if not heads:
            return h if kept[0, layer] else stored[name]
        return torch.where(kept[:-1, layer][:, None], h, stored[name])

    def mlp(h: Tensor, hook: Any, layer: int, name: str) -> Tensor:
        return h if kept[-1, layer] else stored[name]

    def leaves(h: Tensor, hook: Any) -> Tensor:
        h = h.clone()
        h[:, -1] += (stored["blocks.0.hook_resid_pre"] - ours["blocks.0.hook_resid_pre"])[:, -1]
        return h

    hooks: list[Any] = [] if kept.all() else [(f"blocks.{layers - 1}.hook_resid_post", leaves)]
    for layer in range(layers):
        writer = f"blocks.{layer}.attn.hook_z" if heads else f"blocks.{layer}.hook_attn_out"
        for name, put in ((writer, attention), (f"blocks.{layer}.hook_mlp_out", mlp)):
            hooks.append((name, partial(put, layer=layer, name=name)))
    return hooks


@pytest.mark.parametrize(
    ("architecture", "sites", "last_differs"),
    [
        ("gpt2", ["attn_out", "mlp_out"], True),
        ("gpt2", ["z", "mlp_out"], False),
        ("llama", ["attn_out", "mlp_out"], False),
        ("llama", ["z", "mlp_out"], True),
    ],
)
@torch.no_grad()
def test_circuits_are_what_plain_hooks_give(
    architecture: str, sites: list[str], last_differs: bool
) -> None:
    subject, prompts = tiny_subject(architecture), tiny_prompts()
    if last_differs:
        prompts.corrupted[:, -1] = prompts.tokens[:, -1] % 63 + 1
    runs = CircuitRuns(subject, prompts, grid_on(subject, sites))
    generator = torch.Generator().manual_seed(0)
    kept = torch.rand((4, *runs.shape), generator=generator) > 0.5
    kept = torch.cat([kept, torch.zeros_like(kept[:1]), torch.ones_like(kept[:1])])
    found = runs.logit_differences(kept)
    expected = plain_ld(subject, prompts, kept, heads=sites[0] == "z")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[-1], runs.clean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[-2], runs.corrupted, rtol=1e-4, atol=1e-5)
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_scores_of_nodes_sum_those_of_their_points() -> None:
    subject = tiny_subject()
    grid = grid_on(subject, ["attn_out", "resid_mid", "mlp_out"])
    scores = torch.randn(grid.shape)
    scores[2, 0, 1] = torch.nan
    found = node_scores(grid, scores)
    assert node_grid(grid).shape[:2] == found.shape
    torch.testing.assert_close(found[0], scores[0].sum(-1))
    torch.testing.assert_close(found[1], scores[2].nansum(-1))
    torch.testing.assert_close(node_scores(grid, scores, sizes=True)[1], scores[2].abs().nansum(-1))


@pytest.mark.parametrize("sites", [["resid_post"], ["attn_out"], ["attn_out", "z", "mlp_out"]])
def test_sites_that_make_no_circuit_are_refused(sites: list[str]) -> None:
    subject = tiny_subject()
    with pytest.raises(UserInputError, match="circuit's nodes are mlp_out and one of z, o"):
        CircuitRuns(subject, tiny_prompts(), grid_on(subject, sites))
