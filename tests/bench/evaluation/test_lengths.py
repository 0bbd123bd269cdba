"""Prompts of several lengths: dynamic scalars work on them, the others end in a stated result."""

import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from bench.execution.run import Outcome, run_matrix
from bench.matrix.fields import Choice
from bench.plugins import PluginEntry
from methods import METHODS
from tasks.errors import UserInputError
from tasks.ioi import IOI
from tests.small import brief_matrix

DYNAMIC = {"name": "dyn_scalar", "epochs": 3}


@pytest.fixture(scope="module")
def outcome(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    matrix = brief_matrix(
        tiny_folder,
        tasks=["ioi_varied"],
        methods=[DYNAMIC, "grad_scalar"],
        controls={"draws": 0},
        prompts={"train": 4, "test": 6, "shifted": 6},
    )
    with pytest.MonkeyPatch.context() as patch:
        broken = PluginEntry("nowhere:Mine", "broken", "the package bad 1.5")
        patch.setitem(METHODS, "broken", broken)
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
    train = next(row for row in record.metrics if row.split == "train")
    assert pytest.approx(train.E_0_unsteered) != train.E_0
    off = ("sparsity", "circuit", "one_point", "sanity", "specificity", "price_curve")
    assert [getattr(record, name) for name in off] == [None] * len(off)


def test_static_methods_say_which_lengths_and_what_works(outcome: Outcome) -> None:
    """Though all methods are looked at for those that do, and one of them is broken."""
    (failed,) = outcome.failed
    assert failed.method == "grad_scalar"
    assert failed.error is not None
    assert failed.error.kind == "SeveralLengthsError"
    for words in ("tied to positions", "ioi_varied", "dyn_scalar works", '"lengths: one"'):
        assert words in failed.error.message


def test_positions_are_counted_from_the_end(tiny_folder: Path, tmp_path: Path) -> None:
    changes = {"tasks": ["ioi_varied"], "methods": [DYNAMIC], "controls": {"draws": 0}}
    with pytest.raises(UserInputError, match="positions: 3 is another word in every prompt"):
        run_matrix(brief_matrix(tiny_folder, positions=[3, -1], **changes), tmp_path / "counted")
    outcome = run_matrix(brief_matrix(tiny_folder, positions=[-2, -1], **changes), tmp_path / "end")
    assert len(outcome.computed) == 1


def test_trained_on_a_mixture_and_taken_to_its_tasks(tiny_folder: Path, tmp_path: Path) -> None:
    """The paper's Fig. 6: each task's test prompts, whatever was trained on."""
    matrix = brief_matrix(
        tiny_folder,
        tasks=["ccc", "ioi", "mixture"],
        transfer=["ccc", "ioi"],
        methods=[DYNAMIC],
        controls={"draws": 0},
        prompts={"train": 4, "test": 4, "shifted": 0},
    )
    outcome = run_matrix(matrix, tmp_path / "mixture")
    assert not outcome.failed
    records = {one.task: one for one in map(outcome.store.record, outcome.computed)}

    def prompts(task: str, split: str) -> list[str]:
        return [prompt.clean for prompt in records[task].prompts[split]]

    def unsteered(task: str, split: str) -> float:
        (row,) = [row for row in records[task].metrics if row.split == split]
        return row.E_0_unsteered

    assert len(prompts("mixture", "train")) == 4
    for task in ("ccc", "ioi"):
        # The same test prompts, from wherever the dynamic scalars come.
        assert prompts("mixture", task) == prompts(task, "test")
        assert unsteered("mixture", task) == pytest.approx(unsteered(task, "test"))
        assert len({*prompts("mixture", "train")} & {*prompts(task, "train")}) == 2
    assert {*prompts("mixture", "test")} < {*prompts("ccc", "test"), *prompts("ioi", "test")}


def test_an_edited_file_is_computed_again(tiny_folder: Path, tmp_path: Path) -> None:
    pairs = IOI().candidates("train", IOI().entities(), 0)
    rows = [asdict(pair) for pair in islice(pairs, 30)]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    matrix = brief_matrix(
        tiny_folder, tasks=[str(path)], methods=["grad_scalar"], controls={"draws": 0}
    )
    first = run_matrix(matrix, tmp_path / "run")
    assert [first.store.record(cell_id).task for cell_id in first.computed] == ["own.jsonl"]
    assert not run_matrix(matrix, tmp_path / "run").computed
    (tmp_path / "moved").mkdir()
    moved = path.rename(tmp_path / "moved" / "own.jsonl")
    elsewhere = matrix.model_copy(update={"tasks": [Choice(name=str(moved))]})
    assert not run_matrix(elsewhere, tmp_path / "run").computed
    rows[7]["entity"] = "Someone"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert len(run_matrix(matrix, tmp_path / "run").computed) == 1
