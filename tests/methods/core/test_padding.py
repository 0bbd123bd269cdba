"""The same prompt alone and in a padded batch: the same logits, scalars and gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.conformance.small import grid_on
from bench.models.tiny import ARCHITECTURES
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.objective import Objective
from methods.core.points import Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.core.training import train
from methods.dyn_scalar import unsteered_scalars
from tasks.batch import PADDING
from tasks.encoding import encode
from tasks.ioi_varied import IOIVaried
from tests.methods.small import apart, subject

LENGTHS = (9, 5, 7, 9)
BOS = 0


def rows() -> list[Tensor]:
    """Prompts of several lengths, each with a BOS in front."""
    generator = torch.Generator().manual_seed(3)
    return [
        torch.cat([torch.tensor([BOS]), torch.randint(1, 64, (n - 1,), generator=generator)])
        for n in LENGTHS
    ]


def padded(side: str) -> tuple[Tensor, Tensor]:
    """The prompts as one batch with padding on one side, and its mask."""
    longest = max(LENGTHS)
    tokens = torch.full((len(LENGTHS), longest), PADDING)
    for row, prompt in zip(tokens, rows(), strict=True):
        row[slice(longest - len(prompt), None) if side == "left" else slice(len(prompt))] = prompt
    return tokens, tokens != PADDING


def batch() -> Prompts:
    """The prompts as methods get them."""
    tokens, mask = padded("left")
    answers, foils = torch.tensor([3, 8, 5, 11]), torch.tensor([4, 9, 6, 12])
    return Prompts(tokens, tokens, answers, foils, has_bos=True, mask=mask)


def alone(prompts: Prompts, index: int) -> Prompts:
    """One prompt of a batch without its padding."""
    one = prompts.take([index])
    assert one.mask is not None
    tokens = one.tokens[:, one.mask[0]]
    return Prompts(tokens, tokens, one.answers, one.foils, has_bos=True)


def scaling(model: SubjectModel, n_positions: int, positions: Any = "all") -> DynamicScaling:
    """Gates large enough to move logits by O(1), the same for any length."""
    sites = ["attn_out", "mlp_out", "z"]
    grid = grid_on(model, sites, positions, n_positions)
    shape = (len(grid.places), grid.n_layers, max(grid.widths(model.d_model)))
    return DynamicScaling(grid, torch.randn(shape, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_on_either_side_leaves_logits_as_they_are(architecture: str, side: str) -> None:
    model = subject(architecture)
    tokens, mask = padded(side)
    together = model.unsteered_logits(tokens, mask=mask)
    for index, prompt in enumerate(rows()):
        separately = model.unsteered_logits(prompt[None])[0]
        assert separately.std() > 0.3
        assert apart(together[index], separately) < 1e-5


def test_padding_without_its_mask_is_an_error() -> None:
    with pytest.raises(IndexError):
        subject("llama").unsteered_logits(padded("left")[0])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dynamic_scalars_do_the_same_in_a_padded_batch(architecture: str) -> None:
    model, prompts = subject(architecture), batch()
    whole = scaling(model, 9)
    beta = torch.tensor([0.5, -0.5, 0.3, 0.0])
    with torch.no_grad():
        edit = whole.at(beta, first=prompts.first)
        together = model.logits(prompts.tokens, edit, mask=prompts.mask)
        scalars = unsteered_scalars(model, prompts, whole)
    for index, n in enumerate(LENGTHS):
        one = alone(prompts, index)
        own = scaling(model, n)
        with torch.no_grad():
            separately = model.logits(one.tokens, own.at(beta[index : index + 1]))[0]
        unsteered = model.unsteered_logits(one.tokens)[0]
        assert (index == 3) == (apart(separately, unsteered) < 0.05)
        assert apart(together[index], separately) < 1e-4
        scores = unsteered_scalars(model, one, own)[0]
        assert apart(scalars[index, ..., 9 - n :], scores) < 1e-5
        assert (scalars[index, ..., : 9 - n] == 0).all()


def test_padding_and_bos_are_left_alone_to_the_bit() -> None:
    model, prompts = subject("gpt2"), batch()
    edit = scaling(model, 9, "every").at(torch.ones(4), first=prompts.first)
    h = torch.randn(4, 9, model.d_model)
    edited = edit(Site.MLP_OUT, 1, h)
    for row, n in enumerate(LENGTHS):
        assert torch.equal(edited[row, : 9 - n + 1], h[row, : 9 - n + 1])
        assert (edited[row, 9 - n + 1 :] != h[row, 9 - n + 1 :]).any(dim=-1).all()


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma3"])
def test_training_on_a_padded_batch_is_training_on_its_prompts(architecture: str) -> None:
    """One step of Adam on the batch goes where the prompts' own gradients add up to."""
    model, prompts = subject(architecture), batch()
    objective = Objective(margin=5.0, lambda_f=0.1, lambda_m=0.0)
    whole = scaling(model, 9)
    before = whole.gates.detach().clone()
    settings: Any = {"learning_rate": 1e-3, "epochs": 1, "batch_size": None, "seed": 0}
    trace = train(model, whole, prompts, objective, **settings)
    psi, total = 0.0, torch.zeros_like(before)
    for index, n in enumerate(LENGTHS):
        own = scaling(model, n)
        psi += train(model, own, alone(prompts, index), objective, **settings).psi[0] / len(LENGTHS)
        assert own.gates.grad is not None
        total += own.gates.grad / len(LENGTHS)
    assert trace.psi[0] == pytest.approx(psi, rel=1e-5)
    assert whole.gates.grad is not None
    assert total.abs().max() > 1e-2
    assert apart(whole.gates.grad, total) < 1e-4 * float(total.abs().max())
    assert not torch.equal(whole.gates, before)


def test_prompts_of_several_lengths_on_the_embedded_model(smollm2: Any) -> None:
    model = SubjectModel(smollm2.bridge)
    encoded = encode(IOIVaried(), smollm2.tokenizer, {"train": 4}, smollm2.bos_id, seed=0)
    prompts = Prompts.of(encoded.batches["train"])
    assert prompts.mask is not None
    assert len(encoded.lengths) > 2
    together = model.unsteered_logits(prompts.tokens, mask=prompts.mask)
    right = torch.full_like(prompts.tokens, PADDING)
    for row, own, kept in zip(right, prompts.tokens, prompts.mask, strict=True):
        row[: kept.sum()] = own[kept]
    on_the_right = model.unsteered_logits(right, mask=right != PADDING)
    for index in range(len(prompts)):
        separately = model.unsteered_logits(alone(prompts, index).tokens)[0]
        assert apart(together[index], separately) < 2e-3
        assert apart(on_the_right[index], separately) < 2e-3
