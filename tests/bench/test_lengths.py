"""Prompts of several lengths: dynamic scalars work on them, the others end in a stated result."""

from pathlib import Path

import numpy as np
import pytest

from bench.runner import Outcome, run_matrix
from tasks.errors import UserInputError
from tests.small import small_matrix

DYNAMIC = {"name": "dyn_scalar", "epochs": 3}


@pytest.fixture(scope="module")
def outcome(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    matrix = small_matrix(
        tiny_folder,
        tasks=["ioi_varied"],
        methods=[DYNAMIC, "grad_scalar"],
        controls={"draws": 0},
        prompts={"train": 4, "test": 6, "shifted": 6},
    )
    return run_matrix(matrix, tmp_path_factory.mktemp("runs") / "lengths")


def test_dynamic_scalars_are_computed_on_all_lengths(outcome: Outcome) -> None:
    (cell_id,) = outcome.computed
    cell = outcome.store.read(cell_id)
    record = cell.record
    assert record.grid is not None
    prompts = [prompt for split in record.prompts.values() for prompt in split]
    lengths = {sum(token >= 0 for token in prompt.token_ids) for prompt in prompts}
    assert len(lengths) > 2
    assert {len(prompt.tokens) for prompt in prompts} == {max(lengths)}
    assert list(record.grid.positions) == list(range(1, max(lengths)))
    for row, prompt in zip(cell.tensors["prompt_scores"], record.prompts["train"], strict=True):
        padding = sum(token < 0 for token in prompt.token_ids)
        scored = np.array([at > padding for at in record.grid.positions])
        assert (row[..., ~scored] == 0).all()
        assert (row[..., scored] != 0).all()
    (train,) = [row for row in record.metrics if row.split == "train"]
    assert pytest.approx(train.E_0_unsteered) != train.E_0


def test_static_methods_say_which_lengths_and_what_works(outcome: Outcome) -> None:
    (failed,) = outcome.failed
    assert failed.method == "grad_scalar"
    assert failed.error is not None
    assert failed.error.kind == "SeveralLengthsError"
    for words in ("tied to positions", "ioi_varied", "dyn_scalar works", '"lengths: one"'):
        assert words in failed.error.message


def test_positions_are_counted_from_the_end(tiny_folder: Path, tmp_path: Path) -> None:
    changes = {"tasks": ["ioi_varied"], "methods": [DYNAMIC], "controls": {"draws": 0}}
    with pytest.raises(UserInputError, match="positions: 3 is another word in every prompt"):
        run_matrix(small_matrix(tiny_folder, positions=[3, -1], **changes), tmp_path / "counted")
    outcome = run_matrix(small_matrix(tiny_folder, positions=[-2, -1], **changes), tmp_path / "end")
    assert len(outcome.computed) == 1
