"""DLA: its scores add up to the logit difference, and it refuses models it does not understand."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.models.tiny import ARCHITECTURES
from methods.core.final_norm import FinalNorm, UnknownFinalNormError
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.dla import DLA
from tests.methods.lens import cache_of, difference_of, norm_and_unembedding
from tests.methods.small import (
    N_LAYERS,
    apart,
    grid_of,
    prompt_scores,
    prompts,
    setting,
    subject,
)

WRITERS = ("attn_out", "mlp_out")


def by_hand(model: SubjectModel, some: Prompts, x: torch.Tensor, final: torch.Tensor) -> Any:
    """(prompt, position): `x` through the final norm frozen at `final`, answer minus foil.

    Derived from the model rather than from its weights: the norm N at `final` is N(y) = (A y)/s + b
    with a scale s that belongs to `final`, and A/s is found by what N does to `x` at its own scale.
    Also the constant that the biases give.
    """
    norm, unembedding = norm_and_unembedding(model)
    centred = hasattr(norm, "bias") and norm.bias is not None
    eps = getattr(norm, "eps", None) or norm.variance_epsilon

    def scale(y: torch.Tensor) -> torch.Tensor:
        y = y - y.mean(dim=-1, keepdim=True) if centred else y
        return (y.square().mean(dim=-1, keepdim=True) + eps).sqrt()

    with torch.no_grad():
        zero = norm(torch.zeros_like(final))  # the bias
        linear = (norm(x) - zero) * scale(x) / scale(final)
        constant = difference_of(some, unembedding(zero))
        return difference_of(some, unembedding(zero + linear)) - constant, constant


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_score_is_the_activation_through_the_models_own_norm(architecture: str) -> None:
    """And with embedding and constant the writers' add up to LD, at every position with its own
    scale, so at the answer position among them."""
    model, some = subject(architecture), prompts()
    grid = grid_of(model, [*WRITERS, "resid_post"], keep_final_residual=True)
    scores = prompt_scores(DLA(), model, some, grid)
    cache = cache_of(model, some.tokens)
    final = cache[f"blocks.{N_LAYERS - 1}.hook_resid_post"]
    for site, layer in grid.site_layers:
        theirs, _ = by_hand(model, some, cache[f"blocks.{layer}.hook_{site}"], final)
        assert apart(scores[:, grid.sites.index(site), layer], theirs) < 1e-4
    embedding, constant = by_hand(model, some, cache["blocks.0.hook_resid_pre"], final)
    norm, unembedding = norm_and_unembedding(model)
    expected = difference_of(some, unembedding(norm(final))).detach()  # before any soft cap
    assert expected.std() > 0.3
    assert embedding.abs().max() > 0.1
    total = scores[:, :2].sum(dim=(1, 2)) + embedding + constant
    assert apart(total, expected) < 1e-4


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "gemma3"])
def test_strict_form_keeps_the_answer_position_only(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, WRITERS)
    paper, strict = (
        prompt_scores(DLA(form=form), model, some, grid)
        for form in ("paper", "strict")  # type: ignore[arg-type]
    )
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
