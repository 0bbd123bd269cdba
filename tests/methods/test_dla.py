"""DLA: its scores add up to the logit difference, and it refuses models it does not understand."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.models.tiny import ARCHITECTURES
from methods.core.final_norm import FinalNorm, UnknownFinalNormError
from methods.core.points import Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.dla import DLA
from tests.methods.small import (
    N_LAYERS,
    N_POSITIONS,
    cache_of,
    grid_of,
    largest_difference,
    prompts,
    setting,
    subject,
)

WRITERS = ("attn_out", "mlp_out")


def pre_softcap_ld(model: SubjectModel, some: Prompts) -> torch.Tensor:
    """(prompt, position): the model's own LD before any soft cap, read off the unembedding."""
    seen: list[torch.Tensor] = []
    head = model.bridge.original_model.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, args, output: seen.append(output))
    try:
        with torch.no_grad():
            model.bridge.original_model(some.tokens)
    finally:
        handle.remove()
    rows = torch.arange(len(some))
    return seen[0][rows, :, some.answers] - seen[0][rows, :, some.foils]


def by_hand(model: SubjectModel, some: Prompts, x: torch.Tensor, final: torch.Tensor) -> Any:
    """(prompt, position): `x` through the final norm frozen at `final`, answer minus foil.

    Derived from the model rather than from its weights: the norm N at `final` is N(y) = (A y)/s + b
    with a scale s that belongs to `final`, and A/s is found by what N does to `final` plus and
    minus a step along `x` at equal scale, with s measured on each.
    """
    inner = model.bridge.original_model
    norm = next(
        module
        for name, module in inner.named_modules()
        if name.endswith((".ln_f", ".norm", ".final_layer_norm"))
    )
    head = inner.get_output_embeddings()
    centred = hasattr(norm, "bias") and norm.bias is not None
    eps = getattr(norm, "eps", None) or norm.variance_epsilon

    def scale(y: torch.Tensor) -> torch.Tensor:
        y = y - y.mean(dim=-1, keepdim=True) if centred else y
        return (y.square().mean(dim=-1, keepdim=True) + eps).sqrt()

    zero = norm(torch.zeros_like(final))  # the bias
    with torch.no_grad():
        linear = (norm(x) - zero) * scale(x) / scale(final)
        rows = torch.arange(len(some))
        weight = head.weight[some.answers] - head.weight[some.foils]
        scores = (linear * weight[:, None]).sum(dim=-1)
        bias = 0.0 if head.bias is None else head.bias[some.answers] - head.bias[some.foils]
        constant = (zero[rows, -1] * weight).sum(dim=-1) + bias
    return scores, constant


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_writers_embedding_and_constant_add_up_to_the_logit_difference(architecture: str) -> None:
    """At every position with that position's own scale, so the answer position among them."""
    model, some = subject(architecture), prompts()
    grid = grid_of(model, WRITERS)
    scores = DLA().fit(model, some, grid, setting()).prompt_scores
    assert scores is not None
    cache = cache_of(model, some.tokens)
    final = cache[f"blocks.{N_LAYERS - 1}.hook_resid_post"]
    embedding, constant = by_hand(model, some, cache["blocks.0.hook_resid_pre"], final)
    expected = pre_softcap_ld(model, some)
    assert expected.std() > 0.3
    assert embedding.abs().max() > 0.1
    total = scores.sum(dim=(1, 2)) + embedding + constant[:, None]
    assert largest_difference(total, expected) < 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_score_is_the_activation_through_the_models_own_norm(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, ["attn_out", "mlp_out", "resid_post"], keep_final_residual=True)
    scores = DLA().fit(model, some, grid, setting()).prompt_scores
    assert scores is not None
    cache = cache_of(model, some.tokens)
    final = cache[f"blocks.{N_LAYERS - 1}.hook_resid_post"]
    for index, site in enumerate(grid.sites):
        for layer in range(N_LAYERS):
            h = cache[f"blocks.{layer}.hook_{site}"]
            assert (
                largest_difference(scores[:, index, layer], by_hand(model, some, h, final)[0])
                < 1e-4
            )


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "gemma3"])
def test_strict_form_keeps_the_answer_position_only(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, WRITERS)
    paper, strict = (
        DLA(form=form).fit(model, some, grid, setting()).prompt_scores
        for form in ("paper", "strict")
    )
    assert paper is not None
    assert strict is not None
    assert torch.equal(strict[..., -1], paper[..., -1])
    assert torch.all(strict[..., :-1] == 0)
    assert torch.all(paper[..., :-1].abs().amax(dim=(0, 1, 2)) > 0)


def wrong_offset(norm: FinalNorm) -> FinalNorm:
    return replace(norm, norm=replace(norm.norm, weight=norm.norm.weight + 1))


def no_bias(norm: FinalNorm) -> FinalNorm:
    return replace(norm, norm=replace(norm.norm, bias=torch.zeros_like(norm.norm.bias)))


def not_centred(norm: FinalNorm) -> FinalNorm:
    # Random activations have next to no mean; the weighted direction does.
    return replace(norm, norm=replace(norm.norm, centred=not norm.norm.centred))


@pytest.mark.parametrize(
    ("architecture", "mistake"),
    [
        ("gpt2", wrong_offset),
        ("gpt_neox", no_bias),
        ("llama", not_centred),
        ("gemma3", wrong_offset),
    ],
)
def test_a_misread_norm_is_noticed(
    monkeypatch: pytest.MonkeyPatch, architecture: str, mistake: Any
) -> None:
    model, some = subject(architecture), prompts()
    wrong = mistake(FinalNorm.of(model))
    monkeypatch.setattr(FinalNorm, "of", lambda subject: wrong)
    with pytest.raises(UnknownFinalNormError, match="are not a norm and a matrix"):
        DLA().fit(model, some, grid_of(model, WRITERS), setting())


def test_a_grid_without_the_last_residual_still_uses_its_scale() -> None:
    model, some = subject("llama"), prompts()
    alone = DLA().fit(model, some, grid_of(model, ["attn_out"], [N_POSITIONS - 1]), setting())
    both = DLA().fit(model, some, grid_of(model, [Site.ATTN_OUT, Site.RESID_POST]), setting())
    assert torch.equal(alone.scores[0, :, 0], both.scores[0, :, -1])
