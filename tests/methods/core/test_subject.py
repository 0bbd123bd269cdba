"""The subject model: the right activations, and everything left as it was found."""

import pytest
import torch

from bench.models.tiny import ARCHITECTURES, tiny_bridge
from methods.core import memory
from methods.core.memory import NotEnoughMemoryError
from methods.core.points import Site
from methods.core.prompts import Prompts
from methods.core.subject import NonFiniteLogitsError, SubjectModel
from tasks.batch import PromptBatch
from tests.methods.lens import cache_of
from tests.methods.small import apart, grid_of, prompts, subject


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_those_of_hugging_face_at_the_last_position(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    with torch.no_grad():
        theirs = model.bridge.original_model(some.tokens).logits[:, -1]
    assert theirs.std() > 0.3
    assert apart(model.unsteered_logits(some.tokens), theirs) < 1e-4


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
            assert apart(found[Site.RESID_MID, layer], mid) < 1e-5
        after = before + found[Site.ATTN_OUT, layer] + found[Site.MLP_OUT, layer]
        before = found[Site.RESID_POST, layer]
        assert before.abs().max() > 0.5
        assert apart(before, after) < 1e-5


class Doubling:
    """Doubles two sites of a layer at one position, and keeps what it finds at the second."""

    points = ((Site.RESID_MID, 1), (Site.ATTN_OUT, 1))
    seen: torch.Tensor

    def __call__(self, site: Site, layer: int, h: torch.Tensor) -> torch.Tensor:
        if site is Site.RESID_MID:
            self.seen = h
        h = h.clone()
        h[:, 3] *= 2
        return h


def test_edits_of_one_layer_see_each_other() -> None:
    model, some = subject("llama"), prompts()
    cache = cache_of(model, some.tokens)
    pre, attention = cache["blocks.1.hook_resid_pre"], cache["blocks.1.hook_attn_out"]
    edit = Doubling()
    with torch.no_grad():
        model.logits(some.tokens, edit)
    assert apart(edit.seen[:, 3], (pre + 2 * attention)[:, 3]) < 1e-5


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
    assert apart(found, model.unsteered_logits(some.corrupted)) < 1e-4
    assert apart(found, model.unsteered_logits(some.tokens)) > 0.1


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
    some, names = prompts(4), ("tokens", "corrupted", "answers", "foils")
    arrays = {name: getattr(some, name).numpy() for name in names}
    batch = PromptBatch(split="train", pairs=(), token_strings=(), has_bos=True, **arrays)
    found = Prompts.of(batch)
    assert found.has_bos
    assert (len(found), found.n_positions) == (4, 7)
    for name in names:
        assert torch.equal(getattr(found, name), getattr(some, name))
        assert torch.equal(getattr(found.take([2, 0]), name), getattr(some, name)[[2, 0]])
