"""What clean runs are contrasted with."""

from typing import Any

import pytest
import torch

from bench.models.tiny import ARCHITECTURES
from methods.activ_patch import ActivPatch
from methods.attr_patch import AttrPatch
from methods.core.corruption import NOISE_DRAWS, contrasts
from methods.core.points import Site
from tasks.errors import UserInputError
from tests.methods.lens import activation, cache_of, full_logits, metric_of, runs_of
from tests.methods.small import apart, grid_of, prompts, subject


def found(kind: Any, direction: Any = "noising", seed: int = 0, some: Any = None) -> Any:
    """The contrasts of the tiny GPT-2."""
    model = subject()
    return contrasts(model, some or prompts(), grid_of(model, model.sites), kind, direction, seed)


@pytest.mark.parametrize(
    ("kind", "direction"),
    [
        ("counterfactual", "noising"),
        ("counterfactual", "denoising"),
        ("zero", "noising"),
        ("mean", "noising"),
    ],
)
def test_what_is_donated_to_which_run(kind: Any, direction: Any) -> None:
    """Zeros, the mean by layer, site and position, or the other run's activations."""
    model, some = subject(), prompts()
    (contrast,) = found(kind, direction)
    receiver, donor, sign = runs_of(some, direction)
    assert contrast.sign == sign
    assert contrast.receiver.noise is None
    assert torch.equal(contrast.receiver.prompts.tokens, receiver)
    assert torch.equal(contrast.receiver.prompts.answers, some.answers)
    assert torch.equal(contrast.receiver.prompts.foils, some.foils)
    cache = cache_of(model, donor if kind == "counterfactual" else receiver)
    assert len(contrast.donated) == 3 * len(Site)
    for (site, layer), h in contrast.donated.items():
        theirs = activation(cache, site, layer).double()
        mean = theirs.mean(dim=0).expand_as(theirs)
        expected = {"mean": mean, "zero": torch.zeros_like(theirs)}.get(kind, theirs)
        assert apart(h, expected) < (1e-5 if kind != "zero" else 1e-30)
    ld = metric_of(some)(full_logits(model, receiver))
    assert apart(contrast.receiver.logit_difference(model), ld) < 1e-4


@pytest.mark.parametrize("kind", ["zero", "mean"])
@pytest.mark.parametrize("method", [ActivPatch, AttrPatch])
def test_what_has_no_run_of_its_own_cannot_be_denoised(method: Any, kind: Any) -> None:
    with pytest.raises(UserInputError, match=f'"denoising" needs.*"{kind}" does not'):
        method(corruption=kind, direction="denoising")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_noise_is_three_standard_deviations_of_the_embeddings(architecture: str) -> None:
    model, some = subject(architecture), prompts(4)
    grid = grid_of(model, ["attn_out"])
    runs = [c.receiver for c in contrasts(model, some, grid, "gaussian", "denoising", seed=0)]
    assert len(runs) == NOISE_DRAWS == 10
    noise = torch.stack([run.noise for run in runs])
    signs = {c.sign for c in found("gaussian", "denoising")}, {c.sign for c in found("gaussian")}
    assert signs == ({-1}, {1})
    assert torch.all(noise[:, :, 0] == 0)
    assert not torch.equal(noise[0], noise[1])
    embeddings = model.bridge.original_model.get_input_embeddings()(some.tokens)
    expected = 3 * float(embeddings.double().std())
    # 10 draws of 4 x 6 x 32 numbers: the standard deviation is known to about 1 %.
    assert float(noise[:, :, 1:].std()) == pytest.approx(expected, rel=0.05)
    assert abs(float(noise[:, :, 1:].mean())) < 0.05 * expected


def test_noise_is_in_the_run_that_donates() -> None:
    """Noising: clean receiver, and from block 0 on what the noisy run has at every position."""
    model, some = subject(), prompts()
    noisy = found("gaussian", "denoising")[0].receiver
    contrast = found("gaussian", "noising")[0]
    assert contrast.receiver.noise is None
    seen = noisy.activations(model, [(Site.MLP_OUT, 1)])[Site.MLP_OUT, 1]
    clean = cache_of(model, some.tokens)["blocks.1.hook_mlp_out"]
    donated = contrast.donated[Site.MLP_OUT, 1]
    assert torch.equal(donated, seen)
    assert apart(donated[:, 0], clean[:, 0]) < 1e-5
    assert torch.all((donated - clean)[:, 1:].abs().amax(dim=-1) > 0.01)


def test_noise_comes_from_the_seed_alone() -> None:
    first = found("gaussian", "denoising", seed=3)
    torch.rand(5)
    again, other = found("gaussian", "denoising", seed=3), found("gaussian", "denoising", seed=4)
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a.receiver.noise, b.receiver.noise)
        assert not torch.equal(a.receiver.noise, c.receiver.noise)
