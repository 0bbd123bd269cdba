"""A cell computed again as its record says: threads, device, failures, earlier matrices."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from bench.execution.reproduce import compare, compute_again, planned
from bench.execution.run import run_matrix
from bench.matrix.options import RunOptions
from bench.matrix.yaml_file import parse
from bench.store.results import RunStore, find_cell
from tests.bench.cli.test_cli import command
from tests.bench.cli.test_commands import fails
from tests.small import brief_matrix

Shown = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two threads, and its matrix beside it."""
    folder = tmp_path_factory.mktemp("reproduce")
    matrix = brief_matrix(tiny_folder, output=str(folder / "run"))
    (folder / "first.yaml").write_text(yaml.safe_dump(matrix.model_dump()))
    run_matrix(matrix, options=RunOptions(threads=2))
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(whole / "run", tmp_path / "run"))


def test_it_has_the_threads_that_its_record_says(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    store, cell_id = find_cell("shuffled", whole / "run")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        stored = store.read(cell_id)
        again = compute_again(store, stored.record)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert stored.record.provenance["threads"] == again.record.provenance["threads"] == 2
    assert compare(stored, again).same
    assert command(monkeypatch, "reproduce", "random", "-r", str(whole / "run")) == 0
    shown = capsys.readouterr().out
    assert "the same bits" in shown
    assert "computed on 2 threads, cpu, float32, " in shown
    assert "different from then" in shown or "nothing around it is different" in shown


def test_it_is_on_the_kind_of_device_that_it_was_on(
    tiny_folder: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though "auto" means another one here."""
    store, cell_id = find_cell("random", whole / "run")
    matrix = brief_matrix(tiny_folder, models=[{"name": str(tiny_folder), "device": "auto"}])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    cell = planned(matrix, store, store.record(cell_id))
    assert (cell.id, cell.model.device) == (cell_id, "cpu")


def test_a_cell_of_an_earlier_matrix_needs_that_matrix(
    tiny_folder: Path, whole: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    run_matrix(brief_matrix(tiny_folder, methods=["grad_scalar"]), run)
    place = ["activ_scalar", "-r", str(run)]
    assert command(monkeypatch, "reproduce", *place) == 2
    assert "--matrix FILE" in capsys.readouterr().err
    assert command(monkeypatch, "reproduce", *place, "--matrix", str(whole / "first.yaml")) == 0
    assert "the same bits" in capsys.readouterr().out


def test_of_a_failed_cell_the_failure_is_compared(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    place = ["-r", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        fails(patch, "no \x1b[31mgradient today")
        run_matrix(brief_matrix(tiny_folder), tmp_path / "run")
        for name in ("grad_scalar-0", "shuffled"):  # the second one for want of its parent
            assert command(patch, "reproduce", name, *place) == 0
            assert "the same failure" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        fails(patch, "none at all")
        assert command(patch, "reproduce", "grad_scalar-0", *place) == 1
    shown = capsys.readouterr().out
    assert "then: failed: RuntimeError: no \\x1b[31mgradient today" in shown
    assert "now:  failed: RuntimeError: none at all" in shown
    assert command(monkeypatch, "reproduce", "grad_scalar-0", *place) == 1
    assert "now:  done" in capsys.readouterr().out


def test_where_things_lie_is_no_difference(tiny_folder: Path, run: Path, tmp_path: Path) -> None:
    """The model, and the run, may have been moved."""
    moved = shutil.copytree(tiny_folder, tmp_path / "moved")
    store, cell_id = find_cell("grad_scalar-0", run)
    stored = store.read(cell_id)
    config = {**store.config, "models": [{"name": str(moved), "device": "cpu"}]}
    record = stored.record.model_copy(update={"model": str(moved)})
    elsewhere = RunStore(run, {**store.run, "config": parse(config, "it").model_dump()})
    assert compare(stored, compute_again(elsewhere, record)).same


SLOW = '''
import time
from dataclasses import dataclass
from pathlib import Path
from methods.grad_scalar import GradScalar

@dataclass(frozen=True)
class Slow(GradScalar):
    """Waits while a file is there."""
    def fit(self, *arguments):
        while Path({wait!r}).exists():
            time.sleep(0.05)
        return super().fit(*arguments)

METHODS = {{"slow": Slow}}
'''


@pytest.mark.usefixtures("forked_workers")
def test_a_time_limit_is_that_of_the_record_or_the_one_that_is_given(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    wait, file, run = tmp_path / "wait", tmp_path / "theirs.py", tmp_path / "run"
    wait.touch()
    file.write_text(SLOW.format(wait=str(wait)))
    matrix = brief_matrix(tiny_folder, methods=["slow"], controls={"draws": 0}, plugins=[str(file)])
    (failed,) = run_matrix(matrix, run, options=RunOptions(cell_timeout=0.5)).failed
    limits = {key: failed.provenance[key] for key in ("cell_timeout", "load_timeout")}
    assert limits == {"cell_timeout": 0.5, "load_timeout": 3600.0}
    command_line = ["reproduce", "slow", "-r", str(run), "--plugin", str(file)]
    assert command(monkeypatch, *command_line) == 0
    shown = capsys.readouterr().out
    assert "the same failure" in shown
    assert "then: failed: CellTimeoutError: took longer than the limit of 0.5 s" in shown
    assert command(monkeypatch, *command_line, "--cell-timeout", "0") == 2
    wait.unlink()
    assert command(monkeypatch, *command_line, "--cell-timeout", "100") == 1
    assert "now:  done" in capsys.readouterr().out
