"""LocalRules against AttrPatch, sums that have to be LD, and a patched Hugging Face model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.models.load import load_model
from bench.models.tiny import ARCHITECTURES, tiny_bridge
from methods.atp_star import AtPStar
from methods.attr_patch import AttrPatch
from methods.core.local_rules import Rules, local_rules
from methods.core.points import Site
from methods.core.subject import SubjectModel
from methods.local_rules import RULES, LocalRules
from tasks.errors import UserInputError
from tests.architectures.tiny import save_architecture, tiny_config
from tests.methods.small import apart, grid_of, prompt_scores, prompts, setting, subject


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_without_rules_it_is_attribution_patching_to_the_bit(direction: Any) -> None:
    model, some = subject("gemma3"), prompts()
    grid = grid_of(model, ["z", "v", "mlp_out", "resid_post"])
    ours = LocalRules(direction=direction, rules="none").fit(model, some, grid, setting())
    theirs = AttrPatch(direction=direction).fit(model, some, grid, setting())
    assert torch.equal(ours.scores, theirs.scores)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_the_same_bits_under_all_rules(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    with torch.no_grad():
        plain = model.logits(some.tokens)
        for name, rules in RULES.items():
            with local_rules(model, rules):
                assert torch.equal(model.logits(some.tokens), plain), name


@pytest.mark.parametrize("settings", [{"rules": "cp_lrp"}, {"hold_pattern": True}])
def test_relevance_of_a_model_without_biases_is_conserved(settings: Any) -> None:
    """h . g at resid_post, summed over every position, is LD in every layer."""
    model, some = subject("llama", torch.float64), prompts()
    grid = grid_of(model, ["resid_post"], keep_final_residual=True)
    found = prompt_scores(LocalRules("zero", **settings), model, some, grid)
    ld = some.logit_difference(model.unsteered_logits(some.tokens))
    for layer in range(model.n_layers):
        assert apart(found[:, 0, layer].sum(dim=-1), ld) < 1e-4
    ordinary = prompt_scores(LocalRules("zero", rules="none"), model, some, grid)
    assert apart(ordinary[:, 0, 0].sum(dim=-1), ld) > 0.1


@pytest.mark.parametrize("model_type", ["olmo", "nanochat"])
def test_norms_without_weights_are_held_too(
    tmp_path: Path, model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the stream and, in NanoChat, of queries and keys: as by a norm that is written anew."""
    save_architecture(tmp_path, tiny_config(model_type))
    model = SubjectModel(load_model(str(tmp_path), device="cpu", packed=False).bridge)
    some, grid = prompts(), grid_of(model, ["resid_post"])

    def held(self: Any, x: Tensor) -> Tensor:
        x = x - x.mean(dim=-1, keepdim=True) if model_type == "olmo" else x
        eps = getattr(self, "eps", 1e-5)
        return x / x.square().mean(dim=-1, keepdim=True).add(eps).sqrt().detach()

    def scores() -> Tensor:
        return AttrPatch("zero").fit(model, some, grid, setting()).scores

    ordinary = scores()
    with local_rules(model, Rules(hold_norms=True)):
        ours = scores()
    monkeypatch.setattr(type(model.bridge.ln_final.original_component), "forward", held)
    theirs = scores()
    assert apart(ours, ordinary) > 0.05
    assert apart(ours, theirs) < 1e-4


def test_a_norm_that_is_not_what_it_is_read_as_is_said() -> None:
    model = SubjectModel(tiny_bridge("llama", n_layers=2), 500)
    norm = model.bridge.blocks[1].ln2.original_component
    norm.register_forward_hook(lambda module, given, output: 2 * output)
    with pytest.raises(UserInputError, match="ln2 is not a weight times x"):
        LocalRules().fit(model, prompts(), grid_of(model, ["mlp_out"]), setting())


def test_graddrop_leaves_out_one_layer_at_a_time() -> None:
    """By hand: the layer's two outputs are constants, and the point is none of them."""
    model, some = subject("llama"), prompts()
    grid = grid_of(model, ["attn_out", "resid_post"])
    ordinary = prompt_scores(LocalRules(rules="none"), model, some, grid)
    dropped = prompt_scores(LocalRules(rules="none", drop=True), model, some, grid)
    assert torch.equal(dropped.sign(), ordinary.sign())
    # The last layer's attention output loses nothing where other layers are left out: its
    # gradient passes through the last MLP and the final norm alone.
    last = grid.rows(Site.ATTN_OUT).start, model.n_layers - 1
    assert apart(dropped[:, last[0], last[1]], ordinary[:, last[0], last[1]]) < 1e-5
    first = grid.rows(Site.ATTN_OUT).start, 0
    assert apart(dropped[:, first[0], first[1]], ordinary[:, first[0], first[1]]) > 0.01


def test_graddrop_of_one_layer_is_refused() -> None:
    model = SubjectModel(tiny_bridge("llama", n_layers=1), 500)
    with pytest.raises(UserInputError, match="model of one layer"):
        LocalRules(drop=True).fit(model, prompts(), grid_of(model, ["mlp_out"]), setting())


@pytest.mark.parametrize(
    ("model_type", "site", "methods"),
    [
        (
            "gpt_neo",
            "q",
            [LocalRules(rules="gim"), LocalRules(rules="cp_lrp"), AtPStar(drop=False)],
        ),
        ("mamba2", "resid_post", [LocalRules(rules="relp"), LocalRules(rules="none", drop=True)]),
    ],
)
def test_what_rules_cannot_change_is_said(
    tmp_path: Path, model_type: str, site: str, methods: list[Any]
) -> None:
    """GPT-Neo's bridge only looks at its pattern; a Mamba has no attention and no MLP."""
    save_architecture(tmp_path, tiny_config(model_type))
    model = SubjectModel(load_model(str(tmp_path), device="cpu", packed=False).bridge)
    grid = grid_of(model, [site], "last")
    for method in methods:
        with pytest.raises(UserInputError, match=r"hook_attn_scores|hook_pattern|MLP"):
            method.fit(model, prompts(), grid, setting())
