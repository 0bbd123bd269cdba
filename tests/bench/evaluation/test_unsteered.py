"""The table of tasks: numbers against those of a run's own record, and what is not there."""

import io
import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from bench.cli.app import app
from bench.cli.tasks import _write, terminal_tables
from bench.evaluation.unsteered import _row, as_frame, every_variety, measure
from bench.execution.run import run_matrix
from bench.models.load import LoadedModel
from bench.plugins import PluginEntry
from tasks import TASKS
from tasks.build import build_task
from tasks.encoding import encode
from tasks.errors import UserInputError
from tasks.ioi import IOI
from tasks.ioi_varied import IOIVaried
from tests.small import brief_matrix


def corrupted_of(row: dict[str, Any]) -> dict[str, float]:
    parts = (part.split() for part in row["LD corrupted"].split("; "))
    return {kind: float(ld) for kind, ld in parts}


def test_numbers_are_those_of_a_run(tiny: LoadedModel, tiny_folder: Path, tmp_path: Path) -> None:
    (row,) = measure(tiny, [("ioi", IOI())], n_prompts=6)
    matrix = brief_matrix(
        tiny_folder,
        methods=["grad_scalar"],
        controls={"draws": 0},
        prompts={"train": 2, "test": 6, "shifted": 6},
    )
    outcome = run_matrix(matrix, tmp_path / "run")
    cell = outcome.store.read(outcome.computed[0])
    metrics = {metric.split: metric for metric in cell.record.metrics}
    ld = cell.tensors["split.test.ld"][:, 0]
    assert cell.tensors["split.test.beta"][0] == 0
    expected = {
        "LD": ld.mean(),
        "s.e.": ld.std(ddof=1) / math.sqrt(6),
        "E_0": metrics["test"].E_0_unsteered,
        "mass": metrics["test"].mass_unsteered,
        "answer ahead": (ld > 0).mean(),
        "LD shifted": cell.tensors["split.shifted.ld"][:, 0].mean(),
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert row["example"] == cell.record.prompts["test"][0].clean
    assert (row["tokens"], row["prompts"], row["entities"]) == ("12", 6, "217 of 217")
    assert set(corrupted_of(row)) == {"swap", "third_name", "fresh_names"}


def test_corrupted_prompts_are_measured_one_by_one(tiny: LoadedModel) -> None:
    (row,) = measure(tiny, [("ioi_varied", IOIVaried())], n_prompts=5)
    assert "-" in row["tokens"]
    task = IOIVaried(corruption="third_name")
    sizes = {"train": 2, "test": 5, "shifted": 5}
    batch = encode(task, tiny.tokenizer, sizes, tiny.bos_id, seed=0).batches["test"]
    found = []
    for tokens, answer, foil in zip(batch.corrupted, batch.answers, batch.foils, strict=True):
        alone = torch.from_numpy(tokens[tokens >= 0])[None]
        with torch.no_grad():
            logits = tiny.bridge.original_model(alone).logits[0, -1]
        found.append(float(logits[answer] - logits[foil]))
    assert corrupted_of(row)["third_name"] == pytest.approx(np.mean(found), abs=0.006)


def test_every_task_is_there_in_all_its_varieties() -> None:
    found = every_variety()
    without_settings = set(TASKS) - {"file", "planted"}  # which ask a path, and models of their own
    assert {name for name, _ in found} == without_settings
    tasks: list[Any] = [task for _, task in found]
    assert len({task.template for task in tasks if task.name == "ccc"}) == 8
    assert len({task.family for task in tasks if task.name == "fact_conflict"}) == 4
    assert len(tasks) == len(set(tasks))
    several = {task.name for task in tasks if getattr(task, "lengths", "") == "several"}
    assert several == {"ioi_varied"}


def test_a_task_that_cannot_be_asked_says_why(tiny: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"clean": "a", "corrupted": "b", "answer": " c", "foil": " d"}')
    row, other = measure(tiny, [build_task(str(path), {}), ("ioi", IOI())], n_prompts=2)
    assert 'Task "own.jsonl": the split "train" was to have 2 prompts, but only 0' in row["problem"]
    assert not other["problem"]
    frame = as_frame([row, other])
    assert list(frame["task"]) == ["own.jsonl", "ioi"]
    assert math.isnan(frame["LD"][0])


def test_the_command_prints_and_writes_the_table(tiny_folder: Path, tmp_path: Path) -> None:
    arguments = ["tasks", "--model", str(tiny_folder), "--task", "ccc", "--task", "docstring"]
    for out in (tmp_path / "table.csv", tmp_path / "table.md"):
        result = CliRunner().invoke(app, [*arguments, "--prompts", "2", "-o", str(out)])
        assert result.exit_code == 0, result.output
        assert "docstring" in result.output
    frame = pd.read_csv(tmp_path / "table.csv")
    assert list(frame["task"]) == ["ccc", "docstring"]
    assert list(frame["prompts"]) == [2, 2]
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert len(lines) == 4
    assert {line.count(" | ") for line in lines} == {lines[0].count(" | ")}
    assert lines[3].startswith("| docstring | 2 | ")


def test_rows_of_a_file_that_are_dropped_are_counted_with_the_reason(
    tiny_folder: Path, tmp_path: Path
) -> None:
    pairs = islice(IOI().candidates("test", IOI().entities(), 0), 8)
    rows = [{k: v for k, v in vars(pair).items() if k != "entity"} for pair in pairs]
    for row in rows[:3]:
        row["answer"] += " and"
    path = tmp_path / "own.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    options = ["--model", str(tiny_folder), "--task", str(path)]
    said = CliRunner().invoke(app, ["tasks", *options]).output
    assert f"{tiny_folder}: own.jsonl: dropped: entity: the answer is not one token (3)\n" in said


def test_a_model_that_cannot_be_loaded_costs_the_others_nothing(
    tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    path = tmp_path / "table.csv"
    names = [str(tmp_path / "broken"), str(tiny_folder)]
    chosen = [option for name in names for option in ("--model", name)]
    said = CliRunner().invoke(app, ["tasks", *chosen, "--task", "ioi", "-o", str(path)])
    assert isinstance(said.exception, UserInputError)
    assert "broken" in str(said.exception)
    assert str(tiny_folder) in path.read_text("utf-8")
    assert "table: " in said.output


@pytest.mark.parametrize("width", [60, 80, 160])
def test_numbers_stay_whole_in_a_narrow_terminal(width: int) -> None:
    names = ["fact_conflict[family=language]", "subject_verb_agreement", "deep/folder/own.jsonl"]
    found = {"LD": -12.34, "E_0": -12.34, "tokens": "15-21", "LD corrupted": "x +1.50"}
    models = ("m", "/a/folder/of/somebody/who/has/many/folders/in/each/other/model")
    rows = [_row(model, name, **found) for model in models for name in names]
    console = Console(width=width, file=io.StringIO())
    for table in terminal_tables(as_frame(rows), width):
        console.print(table)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert text.count("-12.34") == 12
    assert text.count("15-21") == 6
    assert ("on a wider" in text) == ("x +1.50" not in text) == (width < 160)
    assert width < 80 or all(text.count(name) == 2 for name in names)


def test_a_spreadsheet_runs_nothing_of_the_table_and_other_formats_are_refused(
    tmp_path: Path,
) -> None:
    result = CliRunner().invoke(app, ["tasks", "--output", "table.xlsx"])
    assert isinstance(result.exception, UserInputError)
    assert "written as .csv or .md" in str(result.exception)
    _write(pd.DataFrame({"task": ["=1+1"], "LD": [-1.5]}), tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().splitlines()[1] == "'=1+1,-1.5"


def test_a_broken_task_of_somebodys_is_said_and_not_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = PluginEntry("nowhere:Mine", "broken", "the package bad 1.5", kind="task")
    monkeypatch.setitem(TASKS, "broken", broken)
    with pytest.raises(UserInputError, match=r"the package bad 1.5 has a broken plug-in"):
        every_variety()
