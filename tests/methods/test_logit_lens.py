"""LogitLens against the Hugging Face model's own last modules on its own hidden states."""

import pytest
import torch

from methods.logit_lens import LogitLens
from tests.methods.small import grid_of, largest_difference, prompts, setting, subject


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama", "gemma2"])
def test_scores_are_the_models_own_unembedding_of_its_hidden_states(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, ["resid_post"], [1, 4, 6], keep_final_residual=True)
    found = LogitLens().fit(model, some, grid, setting()).prompt_scores
    assert found is not None
    inner = model.bridge.original_model
    kept: list[torch.Tensor] = []
    blocks = next(
        module for name, module in inner.named_modules() if name.endswith((".h", ".layers"))
    )
    handles = [
        block.register_forward_hook(
            lambda module, given, output: kept.append(
                output[0] if isinstance(output, tuple) else output
            )
        )
        for block in blocks
    ]
    norm = next(
        module
        for name, module in inner.named_modules()
        if name.endswith((".ln_f", ".norm", ".final_layer_norm"))
    )
    with torch.no_grad():
        inner(some.tokens)
        for handle in handles:
            handle.remove()
        for layer in range(model.n_layers):
            logits = inner.get_output_embeddings()(norm(kept[layer]))
            if architecture == "gemma2":
                logits = 10 * torch.tanh(logits / 10)
            rows = torch.arange(len(some))
            theirs = logits[rows, :, some.answers] - logits[rows, :, some.foils]
            assert largest_difference(found[:, 0, layer], theirs[:, [1, 4, 6]]) < 1e-4
    assert theirs.abs().max() > 0.1


def test_the_last_layer_says_what_the_model_says() -> None:
    model, some = subject("gemma3"), prompts()
    grid = grid_of(model, ["resid_post"], "last", keep_final_residual=True)
    found = LogitLens().fit(model, some, grid, setting()).prompt_scores
    assert found is not None
    ld = some.logit_difference(model.unsteered_logits(some.tokens))
    assert largest_difference(found[:, 0, -1, 0], ld) < 1e-4
