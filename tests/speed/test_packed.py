"""What the suite saves in a forward: packed layers, and contiguous states of the last position."""

import torch

from bench.models.load import LoadedModel
from methods.activ_scalar import ActivScalar
from methods.core.objective import Objective
from methods.core.subject import SubjectModel
from methods.method import Setting
from tests.speed.conftest import Comparison, grid_of, random_prompts


def test_forward(compare: Comparison, plain: LoadedModel, smollm2: LoadedModel) -> None:
    prompts = random_prompts(32)
    packed, unpacked = SubjectModel(smollm2.bridge), SubjectModel(plain.bridge)
    with torch.no_grad():
        compare(
            "packed forward",
            lambda: packed.logits(prompts.tokens),
            lambda: unpacked.logits(prompts.tokens),
            at_most=0.55,
        )


def test_training(compare: Comparison, plain: LoadedModel, smollm2: LoadedModel) -> None:
    prompts, method = random_prompts(8), ActivScalar(epochs=4)
    packed, unpacked = SubjectModel(smollm2.bridge), SubjectModel(plain.bridge)
    grid, setting = grid_of(packed), Setting(Objective(), 0)
    compare(
        "packed training",
        lambda: method.fit(packed, prompts, grid, setting),
        lambda: method.fit(unpacked, prompts, grid, setting),
        at_most=0.55,
    )


@torch.no_grad()
def test_last_position(compare: Comparison) -> None:
    """The unembedding of SmolLM2's shape on the states that Hugging Face slices out."""
    states, unembedding = torch.randn(32, 24, 576), torch.randn(49_152, 576)
    sliced = states[:, -1:]
    compare(
        "logits of the last position",
        lambda: torch.nn.functional.linear(sliced.contiguous(), unembedding),
        lambda: torch.nn.functional.linear(sliced, unembedding),
        at_most=0.19,
    )
