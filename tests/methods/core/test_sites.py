"""Sites are offered where activations are what their name says, and no others.

Of models that have a part of them: tests/architectures.
"""

from typing import Any

import pytest
import torch

from bench.models.tiny import ARCHITECTURES, tiny_bridge
from methods.core.points import Site
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError
from tests.methods.small import prompts, subject


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sound_model_has_every_site(architecture: str, dtype: torch.dtype) -> None:
    missing = {Site.RESID_MID} if architecture == "gpt_neox" else set()
    assert subject(architecture, dtype).sites == set(Site) - missing


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_layer_that_adds_something_else_takes_the_site(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """Here a tenth of the stream; the message names site and layer, and what is left works."""
    bridge = tiny_bridge("llama", dtype=dtype)
    block: Any = bridge.blocks[1].original_component
    real = block.forward
    monkeypatch.setattr(block, "forward", lambda h, *a, **k: real(h, *a, **k) + 0.1 * h)
    model = SubjectModel(bridge)
    assert set(Site) - model.sites == {Site.MLP_OUT}
    with pytest.raises(UserInputError, match=r"mlp_out is not what .* in layer 1 of LlamaFor"):
        model.activations(prompts().tokens, [(Site.MLP_OUT, 0)])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_models_go_on_with_changed_attention(architecture: str) -> None:
    """One that puts something back behind what a hook made of it does not."""
    assert not subject(architecture).unheeded_hooks
    model = subject(architecture)
    with (
        model.attached([("blocks.1.attn.hook_z", lambda z, hook: z + 1)]),
        model.attached([("blocks.2.attn.hook_pattern", lambda h, hook: h + 0.1)]),
    ):
        assert model.unheeded_hooks == {
            "blocks.1.attn.hook_pattern",
            "blocks.2.attn.hook_attn_scores",
        }
