"""The command line as its user has it: output, files, exit codes, and no tracebacks."""

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from bench.cli.run import close_run, what_was_done
from bench.execution.run import Outcome, run_matrix
from bench.matrix.options import RunOptions
from bench.store.records import CellError
from bench.store.results import RunStore
from methods import METHODS
from methods.core.memory import NotEnoughMemoryError
from reports.figures import FIGURES
from tasks import TASKS
from tasks.text import counted
from tests.bench.store.test_results import failed
from tests.command import output_of
from tests.small import brief_matrix, failing

ROOT = Path(__file__).parents[3]


@pytest.fixture
def matrix_file(tiny_folder: Path, tmp_path: Path) -> Path:
    matrix = brief_matrix(tiny_folder, output=str(tmp_path / "results"))
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(matrix.model_dump()))
    return file


def test_run_shows_a_leaderboard_and_a_report_needs_only_the_results(
    matrix_file: Path, tmp_path: Path
) -> None:
    shown = output_of("run", matrix_file)
    results = tmp_path / "results"
    page = results / "report" / "index.html"
    for words in ("4 cells to compute", "grad_scalar", str(page)):
        assert words in shown
    for name in ("run.json", "results.parquet", "results.csv", "agreement.csv", page):
        assert (results / name).is_file(), name
    assert list((results / "report" / "figures").glob("leaderboard-*.png"))

    assert "nothing was computed" in output_of("run", matrix_file)
    moved, out = results.rename(tmp_path / "moved"), tmp_path / "r"
    own = ["--width", "column", "--figure", "leaderboard", "--against", moved]
    output_of("report", moved, "-o", out, *own)
    assert (out / "index.html").is_file()
    assert "the same" in (out / "tables" / "change.md").read_text("utf-8")
    for option, value, words in (
        ("--width", "colum", "natural, column, page"),
        ("--figure", "scater", '"scatter"'),
        ("--method", "attr_path", "no method"),
        ("--against", "nowhere", "nowhere does not exist"),
    ):
        assert words in output_of("report", moved, option, value, code=2)


def test_list_names_everything() -> None:
    shown = output_of("list")
    for name in [*METHODS, *TASKS, "smollm2-135m", "gpt2-xl", "quick", *FIGURES]:
        assert f"  {name} " in shown


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": ["atr_patch"]}, ["no method", '"attr_patch"']),
        ({"tasks": ["ioii"]}, ["no task", '"ioi"']),
        ({"models": ["smolm2-135m"]}, ["smolm2-135m", '"smollm2-135m"']),
        ({"sites": ["mlp"]}, ["no site", "mlp_out"]),
        ({"tasks": ["ccc"], "prompts": {"train": 40000}}, ["40000", "train"]),
        ({"tasks": [{"name": "ccc", "template": "stam"}]}, ["stam", '"stem"']),
        ({"keep": 1}, ["there is no key", "keep"]),
        ({"figures": ["comparisn"]}, ["no figure", '"comparison"']),
        ({"positions": [99]}, ["99", "outside"]),
        ({"rows_per_forward": "many"}, ["rows_per_forward", "integer"]),
    ],
)
def test_a_mistake_is_one_paragraph_and_exit_code_2(
    matrix_file: Path, change: dict[str, object], words: list[str]
) -> None:
    matrix = {**yaml.safe_load(matrix_file.read_text()), **change}
    matrix_file.write_text(yaml.safe_dump(matrix))
    shown = output_of("run", matrix_file, code=2)
    assert re.fullmatch(r"(4 cells to compute.*\n)?Error: .*\n", shown)
    assert all(word in shown for word in words), shown


def test_a_mistake_is_said_on_the_stream_of_errors_of_a_process() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "bench", "run", "quikc"],
        cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("Error: ")
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", str(ROOT / "tests")], "is not a results directory"),
        (["run", str(ROOT / "tests")], "tests"),
        (["run", "\x1b]0;title\x07\x1b[2J"], "\\x1b[2J"),
        (["run", "x" * 300], "File name too long. Name another path."),
        (["tasks", "--task", "x" * 300 + ".csv"], "cannot be read: File name too long."),
        (
            ["tasks", "--task", "caf\udce9.csv"],
            'caf\\udce9.csv": its name is not UTF-8; rename it.',
        ),
    ],
)
def test_what_cannot_be_had_is_said(arguments: list[str], words: str) -> None:
    shown = output_of(*arguments, code=2)
    assert shown.startswith("Error: ")
    assert words in shown


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RuntimeError("broken"), 1, ["2 cells failed", "2 cells without a result"]),
        (ValueError("x" * 1_000_000), 1, ["2 cells failed"]),
        (NotEnoughMemoryError("Not enough memory"), 2, ["2 cells failed", "Not enough memory"]),
        (KeyboardInterrupt(), 130, ["the same command goes on"]),
    ],
)
def test_the_exit_code_says_how_a_run_ended(
    error: BaseException, code: int, words: list[str], matrix_file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """However much an error says, a screen and a table hold little of it."""

    failing(monkeypatch, error)
    shown = output_of("run", matrix_file, code=code)
    assert all(word in shown for word in words), shown
    assert "Traceback" not in shown
    assert len(shown) < 10_000
    if code != 130:
        assert (tmp_path / "results" / "results.csv").stat().st_size < 50_000
        assert len(output_of("status", tmp_path / "results")) < 2_000


def test_what_only_leaves_out_is_not_said_to_be_done(tiny_folder: Path, tmp_path: Path) -> None:
    matrix = brief_matrix(tiny_folder)

    def done(*methods: str, reuse: Path | None = None, place: str = "run") -> list[str]:
        only = tuple(f"method={method}" for method in methods)
        options = RunOptions(only=only, reuse=(reuse,) if reuse else ())
        return list(what_was_done(run_matrix(matrix, tmp_path / place, options=options)))

    others = "3 other cells of the matrix are not done: --only left them out."
    assert done("random") == [others]
    before = "Every cell that --only names was done before: nothing was computed."
    assert done("random") == [before, others]
    over = "1 finished cell was taken over, from another run or under another name."
    assert done("random", reuse=tmp_path / "run", place="new") == [over, others]
    assert done() == []
    assert done() == ["Every cell of this matrix was done before: nothing was computed."]


def test_of_many_reasons_the_first_are_shown(tmp_path: Path) -> None:
    outcome = Outcome(RunStore.create(tmp_path, {}))
    for number in range(25):
        error = CellError(kind="ValueError", message=f"number {number}")
        outcome.failed.append(failed(f"c{number}").model_copy(update={"error": error}))
    console = Console(record=True, width=100, file=StringIO())
    assert close_run(outcome, console) == 1
    text = console.export_text()
    assert all(words in text for words in ("25 cells failed", "number 9", "and 15 further reasons"))
    assert "number 10" not in text


def test_things_are_counted_in_words() -> None:
    assert [counted(number, "cell") for number in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
    assert counted(2, "cell is", "cells are") == "2 cells are"
