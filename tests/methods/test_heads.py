"""Head-level sites q, k, v, z and o: what they are, and what holds of heads alone."""

from typing import Any

import pytest
import torch

from bench.models.tiny import ARCHITECTURES
from methods.activ_patch import ActivPatch
from methods.attr_patch import AttrPatch
from methods.core.attention_output import AttentionOutput, UnknownAttentionOutputError
from methods.core.points import HEAD_SITES, Heads, Site
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.dla import DLA
from methods.dyn_scalar import DynScalar
from methods.grad_scalar import GradScalar
from methods.method import Method
from methods.steer_vec import SteerVec
from tests.methods.lens import cache_of
from tests.methods.small import apart, grid_of, in_turn, prompt_scores, prompts, setting, subject


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_has_as_many_values_as_key_value_heads(architecture: str) -> None:
    n_kv_heads = 4 if architecture in ("gpt2", "gpt_neox") else 2
    model = subject(architecture)
    assert model.heads == Heads(4, n_kv_heads, 8)
    counts = {"q": 4, "k": n_kv_heads, "v": n_kv_heads, "z": 4, "o": 4}
    assert [place.label for place in grid_of(model, HEAD_SITES).places] == [
        f"{site}.{head}" for site, count in counts.items() for head in range(count)
    ]


def test_a_scaled_query_turns_the_attention_in_spite_of_its_norm() -> None:
    """Before the norm a scalar would do nothing until it turns the sign."""
    model, some = subject("gemma3"), prompts()
    grid = grid_of(model, ["q", "k"])
    scaling = StaticScaling(grid, torch.ones(grid.shape))
    with torch.no_grad():
        plain = model.logits(some.tokens)
        doubled = model.logits(some.tokens, scaling.at(torch.ones(3)))
    assert apart(plain, doubled) > 0.1


@pytest.mark.parametrize(
    ("method", "architecture"),
    in_turn([ActivPatch(), AttrPatch(), GradScalar(), DLA()], ["gpt2", "gemma2"]),
)
def test_o_scores_are_those_of_z(architecture: str, method: Method) -> None:
    model, some = subject(architecture), prompts()
    o, z = (method.fit(model, some, grid_of(model, [s]), setting()).scores for s in ("o", "z"))
    assert torch.equal(o, z)
    assert o.abs().max() > 0.01


def test_what_is_not_supported() -> None:
    assert Site.O not in SteerVec.sites
    assert not {Site.Q, Site.K, Site.V} & DLA.sites


@pytest.mark.parametrize("method", [SteerVec(epochs=2), DynScalar(epochs=2)])
def test_places_of_different_width_stand_side_by_side(method: Any) -> None:
    """What a place's own width leaves over is no parameter, and stays 0 through training."""
    model, some = subject("qwen2"), prompts()
    own = method.fit(model, some, grid_of(model, ["z", "mlp_out"]), setting()).intervention
    (theta,) = own.parameters()
    assert theta.shape[-1] == 32
    assert bool((theta[:4, ..., 8:] == 0).all())
    assert bool((theta[:4, ..., :8] != 0).any())
    with torch.no_grad():
        logits = model.logits(some.tokens, own.at(torch.ones(3)))
        again = model.logits(some.tokens, own.keep_largest(10_000).at(torch.ones(3)))
    assert torch.equal(logits, again)


def direct_effects(model: SubjectModel) -> dict[str, torch.Tensor]:
    """DLA of heads and of attn_out, (prompt, place, layer, position)."""
    return {
        site: prompt_scores(DLA(), model, prompts(), grid_of(model, [site]))
        for site in ("o", "attn_out")
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dla_of_heads_and_the_bias_is_dla_of_attn_out(architecture: str) -> None:
    """Completeness: the output bias, which belongs to no head, makes up the rest."""
    model, some = subject(architecture), prompts()
    found = direct_effects(model)
    rest = found["attn_out"][:, 0] - found["o"].sum(dim=1)
    scale = cache_of(model, some.tokens)["ln_final.hook_scale"][..., 0]
    unembed = model.bridge.original_model.get_output_embeddings().weight
    difference = unembed[some.answers] - unembed[some.foils]
    for layer in range(3):
        bias = getattr(model.bridge.blocks[layer].attn, "b_O", None)
        if bias is None:
            assert rest[:, layer].abs().max() < 1e-4
            continue
        assert "gemma" not in architecture  # no norm behind the attention to go through
        weighted = model.bridge.ln_final.original_component.weight * difference
        weighted = weighted - weighted.mean(dim=-1, keepdim=True)
        expected = (weighted @ bias)[:, None] / scale
        assert apart(rest[:, layer], expected) < 1e-4
        assert expected.abs().max() > 0.01


def test_a_misread_attention_output_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = AttentionOutput.of

    def without_bias(subject: SubjectModel, layer: int) -> AttentionOutput:
        one = right(subject, layer)
        return AttentionOutput(layer, one.weight, torch.zeros_like(one.bias), one.norm)

    monkeypatch.setattr(AttentionOutput, "of", without_bias)
    with pytest.raises(UnknownAttentionOutputError, match="layer 0 do not add up"):
        direct_effects(subject("gpt2"))
