"""plan: of presets at any size, of suites, and beside other runs."""

import re
from pathlib import Path

import pytest
import yaml

from bench.execution.run import run_matrix
from bench.matrix.options import RunOptions
from tests.bench.cli.test_cli import command
from tests.bench.cli.test_commands import fails
from tests.small import brief_matrix

Shown = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def done(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four cells."""
    folder = tmp_path_factory.mktemp("plan") / "run"
    run_matrix(brief_matrix(tiny_folder), folder)
    return folder


def test_a_preset_is_planned_at_its_sizes_and_on_other_models(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    place = ["-o", str(tmp_path / "run")]
    assert command(monkeypatch, "plan", "fig8", *place) == 0
    assert "smollm2-135m  iphone.jsonl  dla" in capsys.readouterr().out
    other = ["--size", "paper", "--model", str(tiny_folder), "--task", "ioi"]
    assert command(monkeypatch, "plan", "fig8", *other, *place) == 0
    shown = capsys.readouterr().out
    assert f"{tiny_folder}  ioi  dla" in shown
    assert "would run  3, an unknown time" in shown
    assert command(monkeypatch, "plan", "fig8", "--size", "papr", *place) == 2
    assert not (tmp_path / "run").exists()


def test_a_suite_is_planned_preset_by_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    assert command(monkeypatch, "plan", "paper", "-o", str(tmp_path / "all")) == 0
    shown = capsys.readouterr().out
    each = [int(count) for count in re.findall(r": (\d+) cells? in the matrix", shown)]
    total = re.search(r"paper: (\d+) presets, (\d+) cells, (\d+) would run, about", shown)
    assert total is not None
    assert [int(number) for number in total.groups()] == [len(each), sum(each), sum(each)]
    place = ["-o", str(tmp_path / "all"), "--only"]
    assert command(monkeypatch, "plan", "paper", *place, "method=activ_scalar") == 0
    some = capsys.readouterr().out
    assert 0 < some.count(" in the matrix") < len(each)
    assert some.count("has no such cell") + some.count(" in the matrix") == len(each)
    assert command(monkeypatch, "plan", "paper", *place, "method=activ_scaler") == 2
    assert 'no cell has the method "activ_scaler"' in capsys.readouterr().err
    assert command(monkeypatch, "plan", "paper", "--task", "ioi") == 2
    assert not list(tmp_path.iterdir())


def test_the_estimate_is_of_what_is_left(
    done: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    """What another run has is neither counted nor forgotten: it says how long the rest takes."""
    file = tmp_path / "more.yaml"
    matrix = brief_matrix(tiny_folder, methods=["grad_scalar", "dla"], output=str(tmp_path / "new"))
    file.write_text(yaml.safe_dump(matrix.model_dump()))
    assert command(monkeypatch, "plan", str(file)) == 0
    assert "would run  5, an unknown time" in capsys.readouterr().out
    assert command(monkeypatch, "plan", str(file), "--reuse", str(done)) == 0
    shown = capsys.readouterr().out
    assert "taken over 3" in shown
    assert re.search(r"would run  2, about \d+ s in one process", shown)


def test_a_failed_cell_of_one_run_does_not_hide_the_done_one_of_another(
    done: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = brief_matrix(tiny_folder)
    with monkeypatch.context() as patch:
        fails(patch, "not here")
        run_matrix(matrix, tmp_path / "failed")
    options = RunOptions(reuse=(tmp_path / "failed", done))
    outcome = run_matrix(matrix, tmp_path / "new", options=options)
    assert (len(outcome.reused), outcome.computed, outcome.failed) == (4, [], [])


def test_cells_under_the_names_of_an_earlier_matrix_are_known_again(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """The model's folder was called otherwise when they were computed."""
    link = tmp_path / "called-otherwise"
    link.symlink_to(tiny_folder)
    first = run_matrix(brief_matrix(link), tmp_path / "run")
    again = run_matrix(brief_matrix(tiny_folder), tmp_path / "run")
    assert (len(first.computed), len(again.reused), again.computed) == (4, 4, [])
