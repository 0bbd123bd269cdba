"""Rows that go through the model in a fit, against the formulas of docs/methods.md."""

from typing import Any

import pytest

from methods import METHODS
from tests.methods.small import N_LAYERS, grid_of, prompts, setting, subject

L, M = N_LAYERS, 3
"""Layers, and steps where a method has them."""
WIDE = ("attn_out", "mlp_out")


@pytest.mark.parametrize(
    ("name", "settings", "forwards", "backwards", "sites"),
    [
        ("random", {}, 0, 0, WIDE),
        ("attr_patch", {}, 2, 1, WIDE),
        ("attr_patch", {"direction": "denoising"}, 2, 1, WIDE),
        ("grad_scalar", {}, 1, 1, WIDE),
        ("dla", {}, 1, 0, WIDE),
        ("path_gradients", {"path": "clean_corrupted"}, 4, 2, WIDE),
        ("path_gradients", {"path": "inputs", "steps": M}, M + 2, M, WIDE),
        ("path_gradients", {"path": "conductance", "steps": M}, M + 1, M + 1, WIDE),
        ("path_gradients", {"path": "activations", "steps": M}, 2 * L * M + 1, 2 * L * M, WIDE),
        ("path_gradients", {"path": "joint", "steps": M}, M + 1, M, WIDE),
        ("local_rules", {}, 2, 1, WIDE),
        ("local_rules", {"drop": True}, 2 + L, 1 + L, WIDE),
        ("atp_star", {}, 2 + L, 1 + L, WIDE),
        ("direct_effect", {}, 2, 0, WIDE),
        ("diff_means", {}, 2, 0, WIDE),
        ("sadi", {}, 2, 0, WIDE),
        ("probe", {}, 2, 0, WIDE),
        ("information_flow", {}, 1, 0, WIDE),
        ("iterated_grad_scalar", {"steps": M}, 2 * M + 1, 2 * M, WIDE),
        ("hard_concrete", {"steps": M}, M + 2, M, WIDE),
        ("uniform_gates", {"steps": M}, M + 2, M, WIDE),
        ("captum", {"samples": M}, M * 2 * L + 2, 0, WIDE),
        ("captum", {"algorithm": "feature_ablation"}, 2 * L + 2, 0, WIDE),
        ("captum", {"algorithm": "kernel_shap", "samples": 12}, 13, 0, WIDE),
        ("captum", {"algorithm": "integrated_gradients", "samples": M}, M + 1, M, WIDE),
        ("captum", {"algorithm": "gradient_shap", "samples": M}, M + 1, M, WIDE),
        ("activ_scalar", {"epochs": M}, 2 * M + 1, 2 * M, WIDE),
        ("channel_scalar", {"epochs": M}, 2 * M + 1, 2 * M, WIDE),
        ("steer_vec", {"epochs": M}, 2 * M + 2, 2 * M, WIDE),
        ("dyn_scalar", {"epochs": M}, 2 * M + 2, 2 * M, WIDE),
        ("jola", {"epochs": M}, 2 * M + 2, 2 * M, WIDE),
        ("logit_lens", {}, 1, 0, ["resid_post"]),
        ("causal_head_gating", {"steps": M}, 3 * M + 1, 3 * M, ["z"]),
        ("atp_star", {}, 6 + 2 * L, 2 + 2 * L, ["q"]),
        ("atp_star", {}, 8 + 2 * L, 2 + 2 * L, ["q", "k"]),
    ],
)
def test_rows_are_those_of_the_formula(
    name: str, settings: dict[str, Any], forwards: int, backwards: int, sites: Any
) -> None:
    model, some = subject("llama"), prompts()
    METHODS[name].load()(**settings).fit(model, some, grid_of(model, sites), setting())
    n = len(some)
    assert (model.passes.forward, model.passes.backward) == (n * forwards, n * backwards)
