"""How far the scores of a bf16 model are from those of its fp32 twin, on SmolLM2."""

from typing import Any

import pytest
import torch

from bench.agreement.table import kendall
from bench.models.load import load_model
from methods import METHODS
from methods.core.points import make_grid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from tests.methods.small import setting

CLEAN = (
    "The capital of France is Rome. Q: What is the capital of France? A: The capital of France is",
    "The capital of Japan is Rome. Q: What is the capital of Japan? A: The capital of Japan is",
)
CORRUPTED = tuple(text.replace("France", "Spain").replace("Japan", "China") for text in CLEAN)
DRIFT = {"activ_patch": 0.3, "attr_patch": 0.75, "grad_scalar": 0.93, "dla": 0.95}
"""Kendall's tau between fp32 and bf16 scores is at least this. A patch changes a logit difference
of some 5 by less than bf16 resolves at most points, so ActivPatch's small scores change places."""
LARGEST_ERROR = 0.15
"""Of the largest score: the large ones stay where they are."""


@pytest.fixture(scope="module")
def rough() -> SubjectModel:
    return SubjectModel(load_model("smollm2-135m", dtype="bfloat16", device="cpu").bridge)


def some_prompts(tokenizer: Any) -> Prompts:
    def ids(texts: tuple[str, ...]) -> torch.Tensor:
        encoded = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        return torch.tensor([[tokenizer.bos_token_id, *one] for one in encoded])

    answers, foils = ids((" Paris", " Tokyo"))[:, 1], ids((" Rome", " Rome"))[:, 1]
    return Prompts(ids(CLEAN), ids(CORRUPTED), answers, foils, has_bos=True)


@pytest.mark.parametrize("name", DRIFT)
def test_bf16_scores_drift_so_far(smollm2: Any, rough: SubjectModel, name: str) -> None:
    some = some_prompts(smollm2.tokenizer)
    exact = SubjectModel(smollm2.bridge)
    grid = make_grid(
        ["attn_out", "mlp_out"],
        [-1] if name == "activ_patch" else [-1, -6, -12],
        n_layers=30,
        n_positions=some.n_positions,
        has_bos=True,
    )
    keep = (grid.included & grid.reaches_answer).numpy()
    found = []
    for model in (exact, rough):
        attribution = METHODS[name].load()().fit(model, some, grid, setting())
        assert attribution.scores.dtype == torch.float32
        found.append(attribution.scores.double().numpy())
    tau = kendall(*found, keep)
    error = abs(found[0] - found[1])[keep].max() / abs(found[0])[keep].max()
    print(f"{name}: tau {tau:.3f}, largest error {error:.3f} of the largest score")
    assert DRIFT[name] < tau < 1
    assert 0 < error < LARGEST_ERROR
