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
from tests.small import brief_matrix

ROOT = Path(__file__).parents[3]
Shown = pytest.CaptureFixture[str]


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs the command in this process; gives its exit code."""
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.fixture
def matrix_file(tiny_folder: Path, tmp_path: Path) -> Path:
    matrix = brief_matrix(tiny_folder, output=str(tmp_path / "results"))
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(matrix.model_dump()))
    return file


def test_run_shows_a_leaderboard_and_a_report_needs_only_the_results(
    matrix_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
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
    assert list((results / "report" / "figures").glob("leaderboard-*.png"))

    assert command(monkeypatch, "run", str(matrix_file)) == 0
    again = capsys.readouterr().out
    assert "4 cells are done already" in again
    assert "nothing was computed" in again

    moved, out = str(results.rename(tmp_path / "moved")), str(tmp_path / "r")
    own = ["--width", "column", "--figure", "leaderboard", "--against", moved]
    assert command(monkeypatch, "report", moved, "-o", out, *own) == 0
    assert (tmp_path / "r" / "index.html").is_file()
    assert "the same" in (tmp_path / "r" / "tables" / "change.md").read_text("utf-8")
    for options, words in (
        (["--width", "colum"], "natural, column, page"),
        (["--figure", "scater"], '"scatter"'),
        (["--method", "attr_path"], "no method"),
        (["--against", "nowhere"], "nowhere does not exist"),
    ):
        assert command(monkeypatch, "report", moved, *options) == 2
        assert words in capsys.readouterr().err


def test_list_names_everything(monkeypatch: pytest.MonkeyPatch, capsys: Shown) -> None:
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
    matrix_file: Path, change: dict[str, object], words: list[str],
    monkeypatch: pytest.MonkeyPatch, capsys: Shown,
) -> None:  # fmt: skip
    matrix = {**yaml.safe_load(matrix_file.read_text()), **change}
    matrix_file.write_text(yaml.safe_dump(matrix))
    assert command(monkeypatch, "run", str(matrix_file)) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("Error: ")
    assert len(shown.err.strip().splitlines()) == 1
    assert all(word in shown.err for word in words), shown.err


def test_what_is_not_there_is_said_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    """The first one as its user has it: in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-m", "bench", "run", "quikc"],
        cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.startswith("Error: ")
    assert "Traceback" not in run.stdout + run.stderr
    monkeypatch.chdir(ROOT)
    for asked in ("report", "run"):
        assert command(monkeypatch, asked, "tests") == 2
        shown = capsys.readouterr()
        assert shown.err.startswith("Error: ")
        assert "Traceback" not in shown.out + shown.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "x" * 300], "File name too long. Name another path."),
        (["tasks", "--task", "x" * 300 + ".csv"], "cannot be read: File name too long."),
        (
            ["tasks", "--task", "caf\udce9.csv"],
            'caf\\udce9.csv": its name is not UTF-8; rename it.',
        ),
    ],
)
def test_paths_that_the_system_refuses_are_said(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    assert command(monkeypatch, *arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Error: ")
    assert words in shown


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RuntimeError("broken"), 1, "2 cells failed"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
    ],
)
def test_the_exit_code_says_how_a_run_ended(
    error: BaseException, code: int, words: str, matrix_file: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: Shown,
) -> None:  # fmt: skip
    def fit(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(GradScalar, "fit", fit)
    assert command(monkeypatch, "run", str(matrix_file)) == code
    shown = capsys.readouterr()
    assert words in shown.out + shown.err
    assert "Traceback" not in shown.out + shown.err


def test_points_that_no_memory_holds_are_said_with_exit_code_2(
    matrix_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.setattr("methods.core.memory.available_memory", lambda device: 1000)
    assert command(monkeypatch, "run", str(matrix_file)) == 2
    shown = capsys.readouterr().out.replace("\n", " ")
    assert "Not enough memory: the activations of" in shown
    assert "fewer sites" in shown
    assert "2 cells failed" in shown  # activ_scalar and random need no activations


def test_a_name_that_is_a_terminal_command_is_written_out(
    monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    assert command(monkeypatch, "run", "\x1b]0;title\x07\x1b[2J") == 2
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\\x1b[2J" in shown
