"""The final norm as a linear map, against the norm modules of the models themselves."""

import pytest
import torch
from torch import Tensor

from bench.models.tiny import ARCHITECTURES
from methods.core.final_norm import FinalNorm, UnknownFinalNormError
from methods.core.points import Site
from tests.methods.lens import cache_of, difference_of, norm_and_unembedding
from tests.methods.small import apart, prompts, subject


def constant(norm: FinalNorm, answers: Tensor, foils: Tensor) -> Tensor:
    """What the biases of norm and unembedding give to the logit difference."""
    logits = norm.norm.bias @ norm.unembedding.T + norm.unembedding_bias
    return norm.logit_scale * (logits[answers] - logits[foils])


@pytest.mark.parametrize("size", [3.0, 1e-3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_linear_map_and_constant_are_the_models_norm_and_unembedding(
    architecture: str, size: float
) -> None:
    """Of large inputs and of ones so small that eps decides."""
    model, some = subject(architecture), prompts()
    norm = FinalNorm.of(model)
    x = size * (torch.randn((3, 7, 32), generator=torch.Generator().manual_seed(0)) + 0.3)
    module, unembedding = norm_and_unembedding(model)
    with torch.no_grad():
        expected = difference_of(some, unembedding(module(x)))
    found = (x * norm.directions(some.answers, some.foils, x)).sum(dim=-1)
    found = found + constant(norm, some.answers, some.foils)[:, None]
    assert expected.std() > 0.5
    assert apart(found, expected) < 1e-4


def test_unembedding_bias_counts() -> None:
    norm = FinalNorm.of(subject())
    residual, ids = torch.ones(1, 32), (torch.tensor([3]), torch.tensor([5]))
    before = norm.logit_difference(residual, *ids)
    norm.unembedding_bias[3] += 2
    norm.unembedding_bias[5] -= 1
    assert float(norm.logit_difference(residual, *ids) - before) == pytest.approx(3, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_check_accepts_every_architecture(architecture: str, dtype: torch.dtype) -> None:
    """Soft caps included: Gemma 2's logits are 10 tanh(logit / 10)."""
    model, some = subject(architecture, dtype), prompts()
    norm, final = FinalNorm.of(model), (Site.RESID_POST, 2)
    activations, logits = model.activations_and_logits(some.tokens, [final])
    assert torch.equal(logits, model.unsteered_logits(some.tokens))
    residual = activations[final][:, -1]
    assert norm.fitted(architecture, residual, logits, model.tolerance).logit_scale == 1
    assert bool(norm.soft_cap) == (architecture == "gemma2")


def test_check_compares_with_the_model() -> None:
    """Another run's residual stream does not give this run's logits."""
    model, some = subject("llama"), prompts()
    residual = cache_of(model, some.corrupted)["blocks.2.hook_resid_post"][:, -1]
    logits = model.unsteered_logits(some.tokens)
    with pytest.raises(UnknownFinalNormError, match="its scores would be wrong"):
        FinalNorm.of(model).fitted("llama", residual, logits, model.tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_a_scale_behind_the_unembedding_is_part_of_the_map(
    architecture: str, dtype: torch.dtype
) -> None:
    """Before a soft cap as behind none: the logit difference is right, and its linear parts."""
    model, some, final = subject(architecture, dtype), prompts(), (Site.RESID_POST, 2)
    plain = FinalNorm.of(model)
    residual = model.activations(some.tokens, [final])[final][:, -1].float()
    for scale in (1 / 16, 0.25, 8.0):
        before = scale * (plain.norm(residual) @ plain.unembedding.T + plain.unembedding_bias)
        cap = plain.soft_cap
        logits = (cap * torch.tanh(before / cap) if cap else before).to(dtype).float()
        norm = plain.fitted(architecture, residual, logits, model.tolerance)
        assert norm.logit_scale == pytest.approx(scale, rel=1e-5 if model.is_exact else 5e-3)
        ids = some.answers, some.foils
        expected = some.logit_difference(logits)
        assert apart(norm.logit_difference(residual, *ids), expected) < (
            1e-4 if model.is_exact else 0.02
        ) * float(logits.abs().max())
        linear = (residual * norm.directions(*ids, residual[:, None])[:, 0]).sum(dim=-1)
        assert apart(linear + constant(norm, *ids), some.logit_difference(before)) < 0.02 * float(
            before.abs().max()
        )


def test_a_map_that_is_off_in_some_logits_is_no_scale() -> None:
    model, some, final = subject("llama"), prompts(), (Site.RESID_POST, 2)
    activations, logits = model.activations_and_logits(some.tokens, [final])
    logits[:, 5] *= 1.5
    with pytest.raises(UnknownFinalNormError, match="off by"):
        FinalNorm.checked(model, activations[final][:, -1], logits)
