"""plan, status, rm, show and reproduce, as their user has them."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from bench.execution.run import run_matrix
from bench.matrix.config import load_config
from bench.matrix.options import RunOptions
from bench.store.layout import CELL_FILE, only_writer
from bench.store.results import RunStore, find_cell
from methods.grad_scalar import GradScalar
from tasks.errors import UserInputError
from tasks.text import visible
from tests.bench.cli.test_cli import command
from tests.small import brief_matrix


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four cells, and its matrix beside it."""
    folder = tmp_path_factory.mktemp("commands")
    matrix = brief_matrix(tiny_folder, output=str(folder / "run"))
    (folder / "mine.yaml").write_text(yaml.safe_dump(matrix.model_dump()))
    run_matrix(matrix)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    shutil.copytree(whole / "run", tmp_path / "run")
    text = (whole / "mine.yaml").read_text().replace(str(whole), str(tmp_path))
    (tmp_path / "mine.yaml").write_text(text)
    return tmp_path


Shown = pytest.CaptureFixture[str]


def fails(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    def fit(*arguments: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(GradScalar, "fit", fit)


def test_a_plan_says_what_would_run_and_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    text = (folder / "mine.yaml").read_text().replace("- 0\n", "- 0\n- 1\n", 1)
    (folder / "mine.yaml").write_text(text)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert command(monkeypatch, "plan", str(folder / "mine.yaml")) == 0
    shown = capsys.readouterr().out
    assert "done       4" in shown
    assert re.search(r"would run  4, about \d+ s in one process", shown)
    assert "would run    1" in shown
    assert before == {path: path.stat().st_mtime_ns for path in before}

    only = ["plan", str(folder / "mine.yaml"), "--only", "method=GradScalar"]
    assert command(monkeypatch, *only) == 0
    assert "would run  1" in capsys.readouterr().out
    elsewhere = ["plan", str(folder / "mine.yaml"), "-o", str(folder / "new")]
    assert command(monkeypatch, *elsewhere, "--reuse", str(folder / "run")) == 0
    assert "taken over 4" in capsys.readouterr().out


def test_failures_are_shown_kept_and_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    run = ["run", str(folder / "mine.yaml"), "-o", str(folder / "other")]
    with monkeypatch.context() as patch:
        fails(patch, "no \x1b[31mgradient\x07 today")
        assert command(patch, *run) == 1
    shown = capsys.readouterr().out
    assert f"python -m bench status {folder / 'other'}" in shown.replace("\n", "")
    assert "\x1b" not in shown

    assert command(monkeypatch, "status", str(folder / "other")) == 0
    shown = capsys.readouterr().out
    assert "failed  2" in shown
    assert "RuntimeError: no \\x1b[31mgradient\\x07 today" in shown

    failed = find_cell("grad_scalar-0", folder / "other")[1]
    assert command(monkeypatch, "show", failed, "-r", str(folder / "other")) == 0
    shown = capsys.readouterr().out
    assert "Traceback" in shown
    assert "method: grad_scalar" in shown
    assert "\x1b" not in shown

    assert command(monkeypatch, *run, "--keep-failed") == 1
    assert "2 cells failed" in capsys.readouterr().out
    assert command(monkeypatch, *run) == 0
    assert len(RunStore.open(folder / "other").ids()) == 4


def test_finished_cells_of_another_run_are_taken_over(
    whole: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(tiny_folder, tmp_path / "same-model")
    options = RunOptions(reuse=(whole / "run",))
    matrix = brief_matrix(moved, methods=["grad_scalar", "dla"])
    outcome = run_matrix(matrix, tmp_path / "run", options=options)
    reused = {outcome.store.record(name).method for name in outcome.reused}
    assert reused == {"grad_scalar", "random", "shuffled[of=grad_scalar]"}
    assert len(outcome.computed) == 2
    record = outcome.store.record(outcome.reused[0])
    assert record.model == str(moved)
    assert record.provenance["reused_from"] == str(whole / "run")


def test_rm_removes_what_it_is_told_and_no_more(
    folder: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    run = folder / "run"
    run_matrix(brief_matrix(tiny_folder, methods=["grad_scalar"]), run)
    assert command(monkeypatch, "status", str(run)) == 0
    assert "1 cell of earlier matrices" in capsys.readouterr().out
    assert command(monkeypatch, "rm", str(run)) == 2
    assert command(monkeypatch, "rm", str(run), "--stale", "--dry-run") == 0
    assert "would remove" in capsys.readouterr().out
    assert len(RunStore.open(run).stored()) == 4
    assert command(monkeypatch, "rm", str(run), "--stale") == 0
    assert {RunStore.open(run).record(name).method for name in RunStore.open(run).stored()} == {
        "grad_scalar", "random", "shuffled[of=grad_scalar]"
    }  # fmt: skip
    with only_writer(run):
        assert command(monkeypatch, "rm", str(run), "--failed", "--set-aside") == 2
    assert "being written by process" in capsys.readouterr().err


def test_rm_keeps_what_the_matrix_needs_under_whatever_name(
    folder: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    """The model's folder was moved: the cells bear other names, and are what they were."""
    moved, run = shutil.copytree(tiny_folder, folder / "same-model"), str(folder / "run")
    methods = ["grad_scalar", "dla"]  # and no activ_scalar
    some = RunOptions(only=("method=random",))
    outcome = run_matrix(brief_matrix(moved, methods=methods), run, options=some)
    assert (len(outcome.reused), len(outcome.computed)) == (1, 0)
    assert command(monkeypatch, "status", run) == 0
    shown = capsys.readouterr().out
    assert "done       1" in shown
    assert "missing    4" in shown
    assert "taken over 2 by the next run" in shown
    assert "2 cells of earlier matrices lie here too" in shown  # activ_scalar, and random's old one
    assert command(monkeypatch, "rm", run, "--stale") == 0
    assert "2 removed" in capsys.readouterr().out
    outcome = run_matrix(brief_matrix(moved, methods=methods), run)
    assert (len(outcome.known), len(outcome.reused), len(outcome.computed)) == (1, 2, 2)
    assert command(monkeypatch, "rm", run, "--stale") == 0
    assert len(RunStore.open(run).stored()) == 5


def test_rm_reads_the_run_when_it_is_its_only_writer(
    folder: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    """A run that ends while the lock is waited for has given the directory another matrix."""
    run_matrix(brief_matrix(tiny_folder, methods=["grad_scalar"]), folder / "run")

    @contextmanager
    def after_another(directory: Path) -> Iterator[None]:
        run_matrix(brief_matrix(tiny_folder), directory)
        with only_writer(directory):
            yield

    monkeypatch.setattr("bench.cli.stored.only_writer", after_another)
    assert command(monkeypatch, "rm", str(folder / "run"), "--stale") == 0
    assert "0 removed" in capsys.readouterr().out


def test_rm_sets_damage_aside_and_says_so_once(
    folder: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    run = folder / "run"
    run_matrix(brief_matrix(tiny_folder, methods=["grad_scalar"]), run)
    damaged = find_cell("random", run)[1]
    (run / "cells" / damaged / CELL_FILE).write_text("{")
    stale = find_cell("activ_scalar", run)[1]
    (run / "cells" / stale / "notes.txt").write_text("mine")  # goes with its cell
    assert command(monkeypatch, "rm", str(run), "--stale", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert f"would set aside or make anew: {run / 'cells' / damaged / CELL_FILE} (1 bytes)" in shown
    assert (run / "cells" / damaged).exists()
    assert command(monkeypatch, "rm", str(run), "--stale") == 0
    shown = capsys.readouterr().out
    assert f"It is in {run / 'set-aside' / damaged} now." in shown
    assert "next" not in shown
    assert "notes.txt" not in shown
    assert not (run / "cells" / damaged).exists()


@pytest.mark.parametrize("asked", ["status", "plan"])
def test_all_that_is_damaged_or_foreign_is_named(
    asked: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    run = folder / "run"
    for name in ("results.csv", "agreement.parquet"):
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[:50] + b"?" + content[51:])
    (run / "notes.txt").write_text("mine")
    (run / "cells" / ".hid").mkdir()
    (run / "cells" / ".DS_Store").write_text("a file manager's")
    assert command(monkeypatch, asked, str(run if asked == "status" else folder / "mine.yaml")) == 0
    shown = capsys.readouterr().out
    for name in ("results.csv", "agreement.parquet"):
        assert f"damaged: {run / name} was altered" in shown
    for path in (run / "notes.txt", run / "cells" / ".hid"):
        assert f"foreign: {path} is not of the suite; it is left alone" in shown
    assert ".DS_Store" not in shown
    run_matrix(load_config(str(folder / "mine.yaml")))
    assert (run / "notes.txt").read_text() == "mine"
    assert command(monkeypatch, "status", str(run)) == 0
    assert "  damaged:" not in capsys.readouterr().out


def test_a_cell_is_found_by_directory_or_part_of_its_id(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = find_cell("activ_scalar", whole / "run")[1]
    directory = whole / "run" / "cells" / name
    for text in (str(directory), str(directory / CELL_FILE)):
        assert find_cell(text)[1] == name
    (whole / "results").mkdir(exist_ok=True)
    (whole / "run" / "results" / "other" / "cells").mkdir(parents=True)
    monkeypatch.chdir(whole / "run")
    with pytest.raises(UserInputError, match="no cell"):
        find_cell("activ_scalar")
    with pytest.raises(UserInputError, match="4 cells"):
        find_cell("tiny", whole / "run")


def test_show_gives_the_record_as_json_too(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    assert command(monkeypatch, "show", "random", "-r", str(whole / "run"), "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["method"] == "random"
    provenance = record["provenance"]
    for key in ("versions", "git", "device", "device_name", "threads", "dtype", "seconds",
                "peak_memory_bytes", "started"):  # fmt: skip
        assert key in provenance
    assert len(provenance["git"]["commit"]) == 40
    assert record["seed"] == 0


def test_a_cell_that_comes_out_otherwise_says_where(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.setattr("bench.evaluation.responses.SWEPT_SPLITS", ("test",))
    assert command(monkeypatch, "reproduce", "grad_scalar-0", "-r", str(whole / "run")) == 1
    shown = capsys.readouterr().out
    assert "other numbers" in shown
    assert "sweep.train.ld: only in one of the two" in shown


def test_a_cell_that_would_be_another_one_today_says_why(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.setattr("bench.matrix.identity.NUMBERS_VERSION", 77)
    assert command(monkeypatch, "reproduce", "random", "-r", str(whole / "run")) == 2
    assert "numbers_version was" in capsys.readouterr().err


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert visible("a\x1b[2Jb\nc\u202ed\x00é ") == "a\\x1b[2Jb\\nc\\u202ed\\x00é "
