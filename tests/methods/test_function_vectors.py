"""FunctionVectors against a plain loop with hooks."""

from itertools import product

import torch

from methods.function_vectors import FunctionVectors
from tests.methods.lens import cache_of, full_logits
from tests.methods.small import (
    N_LAYERS,
    N_POSITIONS,
    apart,
    grid_of,
    prompt_scores,
    prompts,
    subject,
)


def test_it_is_what_a_plain_loop_gives() -> None:
    """A mean of the clean runs put into a corrupted one, by the answer's probability."""
    model, some = subject("gpt2"), prompts()
    found = prompt_scores(FunctionVectors(), model, some, grid_of(model, ["mlp_out"]))

    def answer(*hooks: object) -> torch.Tensor:
        logits = full_logits(model, some.corrupted, hooks)[:, -1]
        return logits.softmax(dim=-1).gather(1, some.answers[:, None])[:, 0]

    clean, before = cache_of(model, some.tokens), answer()
    for layer, at in product(range(N_LAYERS), range(N_POSITIONS)):
        name = f"blocks.{layer}.hook_mlp_out"

        def put(h: torch.Tensor, hook: object, name: str = name, at: int = at) -> torch.Tensor:
            h = h.clone()
            h[:, at] = clean[name][:, at].mean(dim=0)
            return h

        assert apart(found[:, 0, layer, at], answer((name, put)) - before) < 1e-5
    assert found.abs().max() > 1e-3
