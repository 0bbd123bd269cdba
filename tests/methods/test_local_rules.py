"""LocalRules against AttrPatch, sums that have to be LD, and a patched Hugging Face model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.llama import modeling_llama

from bench.models.load import load_model
from methods.atp_star import AtPStar
from methods.attr_patch import AttrPatch
from methods.core.local_rules import local_rules
from methods.core.points import Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.local_rules import RULES, LocalRules
from tasks.errors import UserInputError
from tests.architectures.tiny import save_architecture, tiny_config
from tests.methods.small import grid_of, largest_difference, prompts, setting, subject
from tests.tiny import ARCHITECTURES, tiny_bridge, tiny_model


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
    found = LocalRules("zero", **settings).fit(model, some, grid, setting()).prompt_scores
    assert found is not None
    ld = some.logit_difference(model.unsteered_logits(some.tokens))
    for layer in range(model.n_layers):
        assert largest_difference(found[:, 0, layer].sum(dim=-1), ld) < 1e-4
    ordinary = LocalRules("zero", rules="none").fit(model, some, grid, setting()).prompt_scores
    assert ordinary is not None
    assert largest_difference(ordinary[:, 0, 0].sum(dim=-1), ld) > 0.1


class Softened(torch.autograd.Function):
    """A softmax with the derivative of one at temperature 2."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        ctx.save_for_backward(torch.softmax(scores / 2, dim=-1))
        return torch.softmax(scores, dim=-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (p,) = ctx.saved_tensors
        return p * (gradient - (gradient * p).sum(dim=-1, keepdim=True))


def part(x: Tensor, share: float) -> Tensor:
    return share * x + ((1 - share) * x).detach()


def plain_gradients(name: str, some: Prompts, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Gradients at mlp_out of a Hugging Face Llama whose modules are written anew by the papers."""
    model = tiny_model("llama")
    lrp, gate = name in ("attn_lrp", "gim"), 0.5

    def norm(self: Any, x: Tensor) -> Tensor:
        scale = x.square().mean(dim=-1, keepdim=True).add(self.variance_epsilon).sqrt().detach()
        return self.weight * x / scale

    def mlp(self: Any, x: Tensor) -> Tensor:
        g = self.gate_proj(x)
        f = torch.nn.functional.silu(g)
        if name != "gim":
            f = g * (f / g).detach()
        if name == "cp_lrp":
            return self.down_proj(f.detach() * self.up_proj(x))
        return self.down_proj(part(f * self.up_proj(x), gate))

    def attention(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, **_: Any) -> Any:
        k, v = (modeling_llama.repeat_kv(of, module.num_key_value_groups) for of in (k, v))
        if lrp:
            q, k, v = part(q, 0.25), part(k, 0.25), v
        elif name == "cp_lrp":
            q, k = q.detach(), k.detach()
        scores = q @ k.mT * module.scaling + torch.full((q.shape[2], q.shape[2]), -1e9).triu(1)
        pattern = Softened.apply(scores) if name == "gim" else torch.softmax(scores, dim=-1)
        if lrp:  # half to the pattern is in the quarter of q and k; half to the values
            v = part(v, 0.5)
        return (pattern @ v).transpose(1, 2).contiguous(), pattern

    monkeypatch.setattr(modeling_llama.LlamaRMSNorm, "forward", norm)
    monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", mlp)
    monkeypatch.setattr(modeling_llama, "eager_attention_forward", attention)
    kept: list[Tensor] = []

    def keep(module: Any, given: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_() if not kept else output)
        return kept[-1]

    for layer in model.model.layers:
        layer.mlp.register_forward_hook(keep)
    ld = some.logit_difference(model(some.tokens).logits[:, -1])
    return torch.stack(torch.autograd.grad(ld.sum(), kept), dim=1)


@pytest.mark.parametrize("name", ["relp", "attn_lrp", "cp_lrp", "gim"])
def test_gradients_are_those_of_modules_written_by_the_papers(
    name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, some = subject("llama"), prompts()
    grid = grid_of(model, ["mlp_out"])
    found = LocalRules("zero", rules=name).fit(model, some, grid, setting()).prompt_scores
    assert found is not None
    points = [(Site.MLP_OUT, layer) for layer in range(model.n_layers)]
    h = torch.stack([*model.activations(some.tokens, points).values()], dim=1)
    theirs = (h * plain_gradients(name, some, monkeypatch)).sum(dim=-1)
    assert theirs.abs().max() > 0.1
    assert largest_difference(found[:, 0], theirs) < 1e-4


def test_graddrop_leaves_out_one_layer_at_a_time() -> None:
    """By hand: the layer's two outputs are constants, and the point is none of them."""
    model, some = subject("llama"), prompts()
    grid = grid_of(model, ["attn_out", "resid_post"])
    ordinary = LocalRules(rules="none").fit(model, some, grid, setting()).prompt_scores
    dropped = LocalRules(rules="none", drop=True).fit(model, some, grid, setting()).prompt_scores
    assert ordinary is not None
    assert dropped is not None
    assert torch.equal(dropped.sign(), ordinary.sign())
    # The last layer's attention output loses nothing where other layers are left out: its
    # gradient passes through the last MLP and the final norm alone.
    last = grid.rows(Site.ATTN_OUT).start, model.n_layers - 1
    assert largest_difference(dropped[:, last[0], last[1]], ordinary[:, last[0], last[1]]) < 1e-5
    first = grid.rows(Site.ATTN_OUT).start, 0
    assert (
        largest_difference(dropped[:, first[0], first[1]], ordinary[:, first[0], first[1]]) > 0.01
    )


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
