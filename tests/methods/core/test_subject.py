"""The subject model: the right activations, and everything left as it was found."""

from typing import Any

import pytest
import torch

from bench.models.tiny import ARCHITECTURES, tiny_bridge
from methods.core import memory
from methods.core.memory import NotEnoughMemoryError
from methods.core.points import Site
from methods.core.prompts import Prompts
from methods.core.subject import NonFiniteLogitsError, SubjectModel
from tasks.batch import PromptBatch
from tasks.errors import UserInputError
from tests.methods.small import (
    SERIAL,
    activation,
    cache_of,
    full_logits,
    grid_of,
    largest_difference,
    prompts,
    subject,
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_those_of_hugging_face_at_the_last_position(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    with torch.no_grad():
        theirs = model.bridge.original_model(some.tokens).logits[:, -1]
    assert theirs.std() > 0.3
    assert largest_difference(model.unsteered_logits(some.tokens), theirs) < 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_activations_add_up_to_the_residual_stream(architecture: str) -> None:
    """attn_out and mlp_out are what is added, behind any norm of their own (SPEC trap 4)."""
    model, some = subject(architecture), prompts()
    points = [(site, layer) for layer in range(3) for site in model.sites]
    found = model.activations(some.tokens, points)
    before = cache_of(model, some.tokens)["blocks.0.hook_resid_pre"]
    for layer in range(3):
        if Site.RESID_MID in model.sites:
            mid = before + found[Site.ATTN_OUT, layer]
            assert largest_difference(found[Site.RESID_MID, layer], mid) < 1e-5
        after = before + found[Site.ATTN_OUT, layer] + found[Site.MLP_OUT, layer]
        before = found[Site.RESID_POST, layer]
        assert before.abs().max() > 0.5
        assert largest_difference(before, after) < 1e-5


@pytest.mark.parametrize("architecture", SERIAL)
def test_resid_mid_and_attn_out_have_the_same_gradient(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    found = model.activations_and_gradients(
        some, [(site, layer) for layer in range(3) for site in (Site.ATTN_OUT, Site.RESID_MID)]
    )
    for layer in range(3):
        attention, stream = found[Site.ATTN_OUT, layer][1], found[Site.RESID_MID, layer][1]
        assert largest_difference(attention, stream) < 1e-6


class Doubling:
    """An edit that doubles one site of one layer at one position."""

    def __init__(self, site: Site, layer: int, position: int) -> None:
        self.points = [(site, layer)]
        self.position = position

    def __call__(self, site: Site, layer: int, h: torch.Tensor) -> torch.Tensor:
        h = h.clone()
        h[:, self.position] *= 2
        return h


@pytest.mark.parametrize("architecture", SERIAL)
def test_an_edit_of_resid_mid_changes_the_residual_stream(architecture: str) -> None:
    """The bridge's hook_resid_mid is the input of the second norm alone, whose scale forgets it."""
    model, some = subject(architecture), prompts()
    stream = activation(cache_of(model, some.tokens), Site.RESID_MID, 1)

    def add(h: Any, hook: Any) -> Any:
        h = h.clone()
        h[:, 3] += stream[:, 3]
        return h

    expected = full_logits(model, some.tokens, [("blocks.1.hook_attn_out", add)])[:, -1]
    with torch.no_grad():
        found = model.logits(some.tokens, Doubling(Site.RESID_MID, 1, 3))
    assert largest_difference(found, expected) < 1e-4
    assert largest_difference(found, model.unsteered_logits(some.tokens)) > 0.01


def test_edits_of_one_layer_see_each_other() -> None:
    """Doubling attn_out, then resid_mid: the second finds what the first has left."""
    model, some = subject("llama"), prompts()
    cache = cache_of(model, some.tokens)
    pre, attention = cache["blocks.1.hook_resid_pre"], cache["blocks.1.hook_attn_out"]

    class Both(Doubling):
        seen: torch.Tensor

        def __call__(self, site: Site, layer: int, h: torch.Tensor) -> torch.Tensor:
            if site is Site.RESID_MID:
                self.seen = h
            return super().__call__(site, layer, h)

    edit = Both(Site.ATTN_OUT, 1, 3)
    edit.points = [(Site.RESID_MID, 1), (Site.ATTN_OUT, 1)]
    with torch.no_grad():
        model.logits(some.tokens, edit)
    assert largest_difference(edit.seen[:, 3], (pre + 2 * attention)[:, 3]) < 1e-5


def test_parallel_blocks_have_no_resid_mid() -> None:
    model = subject("gpt_neox")
    assert model.sites == set(Site) - {Site.RESID_MID}
    with pytest.raises(
        UserInputError, match=r"GPTNeoX.* parallel; it has q, k, v, z, o, attn_out, mlp"
    ):
        model.activations(prompts().tokens, [(Site.RESID_MID, 0)])


def test_dropout_is_switched_off() -> None:
    bridge = tiny_bridge("gpt2")
    bridge.train()
    bridge.requires_grad_(True)
    model = SubjectModel(bridge)
    tokens = prompts().tokens
    assert torch.equal(model.unsteered_logits(tokens), model.unsteered_logits(tokens))
    assert not any(parameter.requires_grad for parameter in bridge.parameters())
    assert not any(module.training for module in bridge.modules())


def test_rows_are_counted() -> None:
    model, some = subject(rows_per_forward=2), prompts(5)
    model.unsteered_logits(some.tokens)
    assert (model.passes.forward, model.passes.backward) == (5, 0)
    model.activations_and_gradients(some, [(Site.ATTN_OUT, 0)])
    assert (model.passes.forward, model.passes.backward) == (10, 5)
    assert [(rows.start, rows.stop) for rows in model.chunks(5)] == [(0, 2), (2, 4), (4, 5)]
    assert list(model.chunks(0)) == []


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_embeddings_are_what_noise_is_added_to(architecture: str) -> None:
    """Noise that undoes the difference of two prompts' embeddings gives the other prompt's run."""
    model, some = subject(architecture, rows_per_forward=2), prompts()
    change = model.embeddings(some.corrupted) - model.embeddings(some.tokens)
    assert change.abs().max() > 0.1
    found = model.unsteered_logits(some.tokens, change)
    assert largest_difference(found, model.unsteered_logits(some.corrupted)) < 1e-4
    assert largest_difference(found, model.unsteered_logits(some.tokens)) > 0.1


def test_nan_in_the_weights_is_named() -> None:
    bridge = tiny_bridge("llama")
    model, some = SubjectModel(bridge), prompts()
    with torch.no_grad():
        bridge.original_model.get_input_embeddings().weight[int(some.tokens[1, 3])] = float("nan")
    with pytest.raises(NonFiniteLogitsError, match=r"NaN or infinite logits for prompts \[.*1.*\]"):
        model.unsteered_logits(some.tokens)


def test_too_many_activations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, some = subject(), prompts()
    monkeypatch.setattr(memory, "available_memory", lambda device: 1000)
    message = (
        r"Not enough memory: the activations of 12 \(site, layer\) pairs for 3 prompts of 7 "
        r"tokens take 0\.0 GiB, and cpu has 0\.0 GiB left\. "
        r"Use fewer sites or fewer train prompts\."
    )
    with pytest.raises(NotEnoughMemoryError, match=message):
        model.activations(some.tokens, grid_of(model).site_layers)
    with pytest.raises(NotEnoughMemoryError, match="Not enough memory"):
        model.activations_and_gradients(some, grid_of(model).site_layers)
    assert model.passes.forward == 0


def test_memory_is_asked_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 2**30, 8 * 2**30))
    assert memory.available_memory(torch.device("cuda")) == 3 * 2**30
    assert memory.available_memory(torch.device("cpu")) > 2**20
    memory.require_memory(3 * 2**30, torch.device("cuda"), "they", "less")
    with pytest.raises(NotEnoughMemoryError, match=r"they take 5\.0 GiB, and cuda has 3\.0 GiB"):
        memory.require_memory(5 * 2**30, torch.device("cuda"), "they", "less")


def test_prompts_are_the_tensors_of_a_batch() -> None:
    some = prompts(4)
    batch = PromptBatch(
        split="train",
        pairs=(),
        tokens=some.tokens.numpy(),
        corrupted=some.corrupted.numpy(),
        answers=some.answers.numpy(),
        foils=some.foils.numpy(),
        token_strings=(),
        has_bos=True,
    )
    found = Prompts.of(batch)
    for name in ("tokens", "corrupted", "answers", "foils"):
        assert torch.equal(getattr(found, name), getattr(some, name))
    assert found.has_bos
    assert (len(found), found.n_positions) == (4, 7)
    taken = found.take([2, 0])
    assert torch.equal(taken.tokens, some.tokens[[2, 0]])
    assert torch.equal(taken.foils, some.foils[[2, 0]])
