"""FunctionVectors against a plain loop with hooks on the Hugging Face model."""

import torch
from torch import Tensor

from methods.function_vectors import FunctionVectors
from tests.methods.small import (
    N_LAYERS,
    N_POSITIONS,
    grid_of,
    largest_difference,
    prompts,
    setting,
    subject,
)


def plain_scores() -> Tensor:
    """(prompt, layer, position) at mlp_out of GPT-2."""
    some, model = prompts(), subject("gpt2").bridge.original_model
    mlps = [block.mlp for block in model.transformer.h]

    def answer(tokens: Tensor) -> Tensor:
        with torch.no_grad():
            probabilities = model(tokens).logits[:, -1].softmax(dim=-1)
        return probabilities.gather(1, some.answers[:, None])[:, 0]

    kept: dict[int, Tensor] = {}
    handles = [
        mlp.register_forward_hook(lambda m, i, out, at=at: kept.__setitem__(at, out.mean(dim=0)))
        for at, mlp in enumerate(mlps)
    ]
    answer(some.tokens)
    for handle in handles:
        handle.remove()
    before = answer(some.corrupted)
    scores = torch.zeros(len(some), N_LAYERS, N_POSITIONS)
    for layer in range(N_LAYERS):
        for position in range(N_POSITIONS):

            def put(m: object, i: object, out: Tensor, at: int = position) -> Tensor:
                out = out.clone()
                out[:, at] = kept[layer][at]  # noqa: B023 (called before the loop goes on)
                return out

            handle = mlps[layer].register_forward_hook(put)
            scores[:, layer, position] = answer(some.corrupted) - before
            handle.remove()
    return scores


def test_it_is_what_a_plain_loop_gives() -> None:
    model = subject("gpt2")
    grid = grid_of(model, ["mlp_out"])
    found = FunctionVectors().fit(model, prompts(), grid, setting()).prompt_scores
    theirs = plain_scores()
    assert found is not None
    assert theirs.abs().max() > 1e-3
    assert largest_difference(found[:, 0], theirs) < 1e-5
