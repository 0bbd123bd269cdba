"""The command line as its user has it: output, files, exit codes, and no tracebacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.cli.app import main
from methods import METHODS
from methods.grad_scalar import GradScalar
from reports.figures import FIGURES
from tasks import TASKS
from tests.small import small_matrix

ROOT = Path(__file__).parents[3]


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs the command in this process; gives its exit code."""
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.fixture
def matrix_file(tiny_folder: Path, tmp_path: Path) -> Path:
    matrix = small_matrix(tiny_folder, output=str(tmp_path / "results"))
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(matrix.model_dump()))
    return file


def test_run_shows_a_leaderboard_and_writes_everything(
    matrix_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(monkeypatch, "run", str(matrix_file)) == 0
    shown = capsys.readouterr().out
    assert "4 cells to compute" in shown
    assert "grad_scalar" in shown
    results = tmp_path / "results"
    for name in ("run.json", "results.parquet", "results.csv", "agreement.csv"):
        assert (results / name).is_file(), name
    page = results / "report" / "index.html"
    assert page.is_file()
    assert str(page) in shown.replace("\n", "")
    assert list((results / "report" / "figures").glob("comparison-*.png"))

    assert command(monkeypatch, "run", str(matrix_file)) == 0
    again = capsys.readouterr().out
    assert "4 cells are done already" in again
    assert "nothing was computed" in again


def test_report_needs_only_the_results(
    matrix_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(monkeypatch, "run", str(matrix_file)) == 0
    (matrix_file.parent / "results").rename(tmp_path / "moved")
    assert command(monkeypatch, "report", str(tmp_path / "moved"), "-o", str(tmp_path / "r")) == 0
    assert (tmp_path / "r" / "index.html").is_file()


def test_list_names_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "list") == 0
    shown = capsys.readouterr().out
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
    matrix_file: Path, tmp_path: Path, change: dict[str, object], words: list[str]
) -> None:
    matrix = {**yaml.safe_load(matrix_file.read_text()), **change}
    matrix_file.write_text(yaml.safe_dump(matrix))
    run = subprocess.run(
        [sys.executable, "-m", "bench", "run", str(matrix_file)],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("Error: ")
    assert len(run.stderr.strip().splitlines()) == 1
    assert "Traceback" not in run.stdout + run.stderr
    assert all(word in run.stderr for word in words), run.stderr


@pytest.mark.parametrize("arguments", [["report", "tests"], ["run", "tests"], ["run", "quikc"]])
def test_what_is_not_there_is_said(arguments: list[str], monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(ROOT)
    assert command(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.mark.parametrize(("error", "code"), [(RuntimeError("broken"), 1), (MemoryError("full"), 1)])
def test_failed_cells_are_named_and_the_exit_code_says_so(
    matrix_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
) -> None:
    def fit(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(GradScalar, "fit", fit)
    assert command(monkeypatch, "run", str(matrix_file)) == code
    shown = capsys.readouterr().out
    assert "2 cells failed" in shown
    assert type(error).__name__ in shown
    assert "Traceback" not in shown


def test_points_that_no_memory_holds_are_said_with_exit_code_2(
    matrix_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("methods.core.memory.available_memory", lambda device: 1000)
    assert command(monkeypatch, "run", str(matrix_file)) == 2
    shown = capsys.readouterr().out.replace("\n", " ")
    assert "Not enough memory: the activations of" in shown
    assert "fewer sites" in shown
    assert "2 cells failed" in shown  # activ_scalar and random need no activations


def test_an_interrupt_says_that_nothing_is_lost(
    matrix_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(GradScalar, "fit", fit)
    assert command(monkeypatch, "run", str(matrix_file)) == 130
    assert "goes on" in capsys.readouterr().err


def test_a_name_that_is_a_terminal_command_is_written_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "run", "\x1b]0;title\x07\x1b[2J") == 2
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\\x1b[2J" in shown


def test_options_of_a_report_that_are_wrong_are_said(
    matrix_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "run", str(matrix_file)) == 0
    results = str(matrix_file.parent / "results")
    capsys.readouterr()
    for options, words in (
        (["--width", "colum"], "natural, column, page"),
        (["--figure", "scater"], '"scatter"'),
        (["--method", "attr_path"], "no method"),
        (["--against", "nowhere"], "nowhere does not exist"),
    ):
        assert command(monkeypatch, "report", results, *options) == 2
        assert words in capsys.readouterr().err
    own = ["--width", "column", "--figure", "leaderboard", "--against", results]
    assert command(monkeypatch, "report", results, *own) == 0
    assert "the same" in (Path(results) / "report" / "tables" / "change.md").read_text("utf-8")
