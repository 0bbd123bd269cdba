"""Sites are offered where activations are what their name says, and no others."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.models.load import load_model
from methods.core.points import Site
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError
from tests.architectures.tiny import save_architecture, tiny_config
from tests.methods.small import prompts, subject
from tests.tiny import ARCHITECTURES, tiny_bridge


def subject_of(folder: Path, model_type: str, **settings: object) -> SubjectModel:
    saved = save_architecture(folder, tiny_config(model_type, **settings))
    return SubjectModel(load_model(str(saved), device="cpu", packed=False).bridge)


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


@pytest.mark.parametrize(
    ("model_type", "has", "lacks", "said"),
    [
        ("falcon_h1", {Site.RESID_POST, Site.MLP_OUT, Site.Z}, Site.ATTN_OUT, "layers 0, 1, 2"),
        ("openai-gpt", {Site.Z}, Site.RESID_MID, "layers 0, 1, 2"),
        ("mamba", {Site.RESID_POST}, Site.ATTN_OUT, "does not exist in layers 0, 1, 2"),
        ("jamba", {Site.RESID_POST, Site.MLP_OUT}, Site.ATTN_OUT, "layers 0, 2"),
        ("lfm2", {Site.RESID_POST, Site.MLP_OUT}, Site.ATTN_OUT, "layers 0, 2"),
    ],
)
def test_what_hybrid_models_have(
    tmp_path: Path, model_type: str, has: set[Site], lacks: Site, said: str
) -> None:
    model = subject_of(tmp_path / "model", model_type)
    assert has <= model.sites
    assert lacks not in model.sites
    with pytest.raises(UserInputError, match=f"{lacks} .*{said}.* of .*; it has "):
        model.check_sites([lacks])
    some = prompts()
    points = [(site, layer) for site in sorted(model.sites) for layer in range(3)]
    found = model.activations_and_gradients(some, points)
    assert all(bool(torch.isfinite(gradient).all()) for _, gradient in found.values())
