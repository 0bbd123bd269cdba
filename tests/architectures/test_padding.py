"""Prompts of several lengths give the numbers that each gives alone, or are refused in words."""

from pathlib import Path

import pytest
import torch

from bench.models.load import load_model
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError
from tests.architectures.tiny import save_architecture, tiny_config

REFUSED = ("openai-gpt", "recurrent_gemma", "rwkv")
"""A mask makes another attention, or states go on through padding."""


@pytest.mark.parametrize("model_type", ["mamba", "gemma3_text", "mpt", *REFUSED])
def test_padding_changes_nothing_or_is_refused(tmp_path: Path, model_type: str) -> None:
    folder = save_architecture(tmp_path / "model", tiny_config(model_type))
    model = SubjectModel(load_model(str(folder), device="cpu", packed=False).bridge)
    tokens = torch.randint(2, 60, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[0, :3] = False
    if model_type in REFUSED:
        for _ in range(2):  # not the first time alone
            with pytest.raises(UserInputError, match=r"several lengths cannot .*`lengths: one`"):
                model.unsteered_logits(tokens.masked_fill(~mask, -1), mask=mask)
        return
    forwards = model.passes.forward
    found = model.unsteered_logits(tokens.masked_fill(~mask, -1), mask=mask)
    assert model.passes.forward == forwards + 2
    alone = torch.cat(
        [model.unsteered_logits(row[own][None]) for row, own in zip(tokens, mask, strict=True)]
    )
    assert torch.allclose(found, alone, atol=1e-4)
