"""LogitLens against the Hugging Face model's own last modules on its own hidden states."""

import pytest
import torch

from methods.logit_lens import LogitLens
from tests.methods.lens import cache_of, difference_of, norm_and_unembedding
from tests.methods.small import N_LAYERS, apart, grid_of, prompt_scores, prompts, subject


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama", "gemma2"])
def test_scores_are_the_models_own_unembedding_of_its_hidden_states(architecture: str) -> None:
    model, some = subject(architecture), prompts()
    grid = grid_of(model, ["resid_post"], [1, 4, 6], keep_final_residual=True)
    found = prompt_scores(LogitLens(), model, some, grid)
    norm, unembedding = norm_and_unembedding(model)
    cache = cache_of(model, some.tokens)
    for layer in range(N_LAYERS):
        with torch.no_grad():
            logits = unembedding(norm(cache[f"blocks.{layer}.hook_resid_post"]))
        if architecture == "gemma2":
            logits = 10 * torch.tanh(logits / 10)
        theirs = difference_of(some, logits)[:, [1, 4, 6]]
        assert apart(found[:, 0, layer], theirs) < 1e-4
    assert theirs.abs().max() > 0.1
    ld = some.logit_difference(model.unsteered_logits(some.tokens))
    assert apart(found[:, 0, -1, -1], ld) < 1e-4, "the last layer says what the model says"
