"""A dozen architectures, each of another kind, against hooks on plain Hugging Face models.

`tox -e architectures` does the same with all of them, and makes docs/models.md.
"""

from pathlib import Path

import pytest
import torch

from bench.models.load import load_model
from methods.core.objective import Objective
from methods.core.points import make_grid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.dla import DLA
from methods.method import Setting
from tests.architectures.page import PAGE, notes_of, reasons, row
from tests.architectures.survey import of_all
from tests.architectures.tiny import every_variety, save_architecture, tiny_config

KINDS = (
    "bloom", "cohere", "deepseek_v3", "falcon", "granite", "mixtral", "olmo",
    "falcon_h1", "jamba", "lfm2", "mamba", "openai-gpt",
)  # fmt: skip
"""The first seven have everything, the others a part."""


@pytest.mark.parametrize("name", KINDS)
def test_numbers_are_those_of_the_plain_model_as_the_page_says(name: str) -> None:
    ((_, found),) = of_all([name])
    assert found.wrong == []
    assert found.verdict == ("right" if name in KINDS[:7] else "in part")
    lines = PAGE.read_text("utf-8").splitlines()
    assert row(name, found) in lines
    assert not notes_of(found) or reasons(name, found) in lines


def test_the_page_has_every_architecture_and_none_is_wrong() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in rows] == sorted(every_variety())
    assert not any("| WRONG |" in line for line in rows)


@pytest.mark.parametrize("model_type", ["cohere", "granite"])
def test_a_scale_behind_the_unembedding_is_in_scores_in_half_precision(
    tmp_path: Path, model_type: str
) -> None:
    """Without it they would be 2 to 3 times too large."""
    folder = save_architecture(tmp_path / "model", tiny_config(model_type))
    tokens = torch.randint(2, 60, (2, 7), generator=torch.Generator().manual_seed(0))
    some = Prompts(tokens, tokens, torch.tensor([5, 9]), torch.tensor([33, 40]), has_bos=False)
    grid = make_grid(["attn_out", "mlp_out"], "last", n_layers=3, n_positions=7, has_bos=False)
    scores = []
    for dtype in ("float32", "bfloat16"):
        model = SubjectModel(load_model(str(folder), device="cpu", dtype=dtype).bridge)
        scores.append(DLA(form="strict").fit(model, some, grid, Setting(Objective(), 0)).scores)
    exact, half = scores
    assert (half - exact).norm() < 0.05 * exact.norm()
