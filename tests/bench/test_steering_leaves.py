"""What `steered` leaves of a plain model, attribute by attribute, whichever adapter prepared it."""

import copy
from contextlib import suppress
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from bench.models.bridge import quiet_transformers
from bench.models.tiny import randomise
from bench.steering import steered
from methods.core.points import make_grid
from methods.core.static_scaling import StaticScaling
from tests.architectures.tiny import tiny_config

TOKENS = torch.tensor([[0, 5, 9, 33, 2, 7, 11]])


def model_of(kind: str) -> Any:
    """Made in memory, so that its configuration names no architecture."""
    with quiet_transformers():
        model = AutoModelForCausalLM.from_config(tiny_config(kind, pad_token_id=0))
    randomise(model, 0)
    return model.eval()


def attributes(model: Any) -> dict[tuple[str, str], Any]:
    """Every attribute of all modules, their classes and configurations, and what they hold."""
    found = {}
    for name, module in model.named_modules():
        for what, one in (("", module), ("class ", type(module)), ("config ", model.config)):
            for key, value in vars(one).items():
                held = copy.copy(value) if isinstance(value, dict | list | set) else id(value)
                found[what + name, key] = (id(value), held)
    return found


@pytest.mark.parametrize("kind", ["falcon", "gpt_neox", "phi3", "bloom", "olmoe", "opt"])
@torch.no_grad()
def test_a_model_is_as_it_was_attribute_by_attribute(kind: str) -> None:
    """And a copy of it is a model of its own: with weights of zero it gives other logits."""
    model = model_of(kind).train(kind == "phi3")  # which drops nothing
    logits, weights = model(TOKENS).logits, copy.deepcopy(model.state_dict())
    before = attributes(model)
    grid = make_grid(["attn_out"], "all", n_layers=3, n_positions=7, has_bos=True)
    scaling = StaticScaling(grid, torch.ones(grid.shape))
    with suppress(ZeroDivisionError), steered(model, scaling, 0.5):
        assert not torch.allclose(model(TOKENS).logits, logits, atol=1e-2)
        assert attributes(model) != before
        seen: list[Any] = []  # hooks that its owner adds in the block are called
        hook = model.get_output_embeddings().register_forward_hook(lambda *_: seen.append(1))
        model(TOKENS)
        hook.remove()
        assert seen
        _ = 1 / 0
    assert attributes(model) == before
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert torch.equal(model(TOKENS).logits, logits)
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.zero_()
    assert not other(TOKENS).logits.any()
