"""plan: of presets at any size, of suites, beside other runs, and what is taken over of those."""

import re
import shutil
from pathlib import Path

import pytest

from bench.execution.run import run_matrix
from bench.matrix.options import RunOptions
from tests.command import output_of
from tests.small import brief_matrix, failing


def test_a_preset_is_planned_at_its_sizes_and_on_other_models(
    tiny_folder: Path, tmp_path: Path
) -> None:
    place = ["-o", tmp_path / "run"]
    assert "smollm2-135m  iphone.jsonl  dla" in output_of("plan", "fig8", *place)
    other = ["--size", "paper", "--model", tiny_folder, "--task", "ioi"]
    shown = output_of("plan", "fig8", *other, *place)
    assert f"{tiny_folder}  ioi  dla" in shown
    assert "would run  3, an unknown time" in shown
    output_of("plan", "fig8", "--size", "papr", *place, code=2)
    assert not list(tmp_path.iterdir())


def test_a_suite_is_planned_preset_by_preset(tmp_path: Path) -> None:
    place = ["-o", tmp_path / "all"]
    shown = output_of("plan", "paper", *place)
    each = [int(count) for count in re.findall(r": (\d+) cells? in the matrix", shown)]
    total = re.search(r"paper: (\d+) presets, (\d+) cells, (\d+) would run, about", shown)
    assert total is not None
    assert [int(number) for number in total.groups()] == [len(each), sum(each), sum(each)]
    some = output_of("plan", "paper", *place, "--only", "method=activ_scalar")
    assert 0 < some.count(" in the matrix") < len(each)
    assert some.count("has no such cell") + some.count(" in the matrix") == len(each)
    wrong = output_of("plan", "paper", *place, "--only", "method=activ_scaler", code=2)
    assert 'no cell has the method "activ_scaler"' in wrong
    output_of("plan", "paper", "--task", "ioi", code=2)
    assert not list(tmp_path.iterdir())


def test_a_plan_says_what_would_run_and_writes_nothing(copied: Path) -> None:
    """What another run has is neither counted nor forgotten: it says how long the rest takes."""
    file = copied / "mine.yaml"
    file.write_text(file.read_text().replace("- 0\n", "- 0\n- 1\n", 1))
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    shown = output_of("plan", file)
    assert "done       4" in shown
    assert "would run    1" in shown
    assert re.search(r"would run  4, about \d+ s in one process", shown)
    assert "would run  1" in output_of("plan", file, "--only", "method=GradScalar")
    new = ["plan", file, "-o", copied / "new"]
    assert "would run  8, an unknown time" in output_of(*new)
    shown = output_of(*new, "--reuse", copied / "run")
    assert "taken over 4" in shown
    assert re.search(r"would run  4, about \d+ s in one process", shown)
    assert before == {path: path.stat().st_mtime_ns for path in copied.rglob("*")}


def test_finished_cells_of_other_runs_are_taken_over(
    whole: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """The model's folder has another name, and in the first of the runs they have failed."""
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, RuntimeError("not here"))
        run_matrix(brief_matrix(tiny_folder, methods=["grad_scalar"]), tmp_path / "failed")
    moved = shutil.copytree(tiny_folder, tmp_path / "same-model")
    options = RunOptions(reuse=(tmp_path / "failed", whole / "run"))
    matrix = brief_matrix(moved, methods=["grad_scalar", "dla"])
    outcome = run_matrix(matrix, tmp_path / "run", options=options)
    records = {outcome.store.record(name).method: name for name in outcome.reused}
    assert set(records) == {"grad_scalar", "random", "shuffled[of=grad_scalar]"}
    assert (len(outcome.computed), outcome.failed) == (2, [])
    record = outcome.store.record(records["grad_scalar"])
    assert record.model == str(moved)
    assert record.provenance["reused_from"] == str(whole / "run")
