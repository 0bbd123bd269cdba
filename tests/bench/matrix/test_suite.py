"""Suites: presets run one after the other, their reports, and a first page of claims."""

import os
from pathlib import Path

import pytest
from click.testing import Result
from matplotlib.image import imread
from typer.testing import CliRunner

from bench.cli import run as of_run
from bench.cli.app import app
from bench.execution import cell_runner
from bench.matrix import config
from bench.matrix.config import load_suite, read_file
from bench.matrix.options import RunOptions
from tasks.errors import UserInputError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("presets: [fig22]", r'no preset "fig22".*Did you mean "fig2"'),
        ("presets: []", "has to be a list of names"),
        ("presets: [fig2]\nmodel: gpt2", 'no key "model"'),
    ],
)
def test_a_list_of_presets_says_what_is_wrong_with_it(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserInputError, match=message):
        load_suite(str(tmp_path / "mine.yaml"))


def test_a_suite_has_a_directory_for_each_choice_of_models_and_size() -> None:
    assert load_suite("paper").directory == Path("results/paper")
    suite = load_suite("paper", size="paper", models=["gpt2"])
    assert suite.directory == Path("results/paper-paper-gpt2")
    assert all([m.name for m in matrix.models] == ["gpt2"] for matrix in suite.matrices.values())


def run(folder: Path, model: Path, *options: str, results: str = "results") -> Result:
    """Presets as they stand, but with one draw of as few prompts as there can be."""
    few = {"prompts": {"train": 1, "test": 1, "shifted": 0}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            config,
            "read_file",
            lambda file: (data := read_file(file)) | (few if "tasks" in data else {}),
        )
        arguments = ["run", str(folder / "mine.yaml"), "--model", str(model)]
        return CliRunner().invoke(app, [*arguments, "--output", str(folder / results), *options])


@pytest.fixture(scope="module")
def suite(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a suite of two presets on a tiny model."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "mine.yaml").write_text("presets: [fig8, fig3]")
    first = run(folder, tiny_folder)
    assert first.exit_code == 0, first.output
    assert "2 presets. 4 cells to compute" in first.output
    return folder / "results"


def test_a_suite_leaves_reports_and_a_page_of_claims(suite: Path) -> None:
    assert (suite / "claims.csv").is_file()
    page = (suite / "index.html").read_text("utf-8")
    for preset, figure in (("fig3", "fig3"), ("fig8", "fig7")):
        assert f"{preset}/report/index.html" in page
        drawn = {file.name.split("-")[0] for file in (suite / preset / "report/figures").iterdir()}
        assert drawn == {figure}


def test_all_reports_of_a_suite_are_written_anew(suite: Path) -> None:
    os.unlink(suite / "index.html")
    done = CliRunner().invoke(app, ["report", str(suite), "--width", "column"])
    assert done.exit_code == 0, done.output
    assert str(suite / "index.html") in done.output
    for preset in ("fig3", "fig8"):
        (picture,) = (suite / preset / "report" / "figures").glob("*.png")
        assert imread(picture).shape[1] == 650
    elsewhere = CliRunner().invoke(app, ["report", str(suite), "--output", "elsewhere"])
    assert isinstance(elsewhere.exception, UserInputError)
    assert "Leave out --output and --against" in str(elsewhere.exception)


def test_a_damaged_run_in_a_suite_is_mended_by_the_same_command(
    suite: Path, tiny_folder: Path
) -> None:
    """And some cells alone can be asked for."""
    next((suite / "fig8" / "cells").glob("*/cell.json")).write_text("{")
    (suite / "fig3" / "run.json").write_text("{")
    mended = run(suite.parent, tiny_folder)
    assert mended.exit_code == 0, mended.output
    some = run(suite.parent, tiny_folder, "--only", "method=dla")
    assert some.exit_code == 0, some.output
    assert "0 cells to compute." in some.output
    assert "Without such a cell: fig3." in some.output
    wrong = run(suite.parent, tiny_folder, "--only", "method=dlaa")
    assert 'no cell has the method "dlaa"' in str(wrong.exception)


def test_the_last_lines_say_how_to_see_what_failed(
    suite: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell of a preset, and one whose folder is somebody's own."""

    def fails(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(cell_runner, "compute_cell", fails)
    place = suite.parent / "others"
    (place / "fig3").mkdir(parents=True)
    (place / "fig3" / "notes.txt").write_text("somebody's own")
    ended = run(suite.parent, tiny_folder, results="others")
    assert ended.exit_code == 2, ended.output
    assert ended.stdout.splitlines()[-2:] == [
        f"fig8: 3 cells failed: python -m bench status {place / 'fig8'}",
        "fig3: could not be run; its error stands above.",
    ]
    assert [file.name for file in (place / "fig3").iterdir()] == ["notes.txt"]


def test_every_option_of_the_command_reaches_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[RunOptions] = []
    monkeypatch.setattr(of_run, "run_presets", lambda suite, options, _: taken.append(options))
    limits = {"cell_timeout": 7, "load_timeout": 8, "workers": 2, "patience": 9, "threads": 3}
    given = [f"--{name.replace('_', '-')}={value}" for name, value in limits.items()]
    CliRunner().invoke(app, ["run", "paper", *given, "--only", "task=ioi", "--reuse", "elsewhere"])
    assert taken == [RunOptions(only=("task=ioi",), reuse=(Path("elsewhere"),), **limits)]
