"""Suites: presets run one after the other, their reports, and a first page of claims."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from bench.cli.app import app
from bench.matrix import config
from bench.matrix.config import load_suite, read_file
from tasks.errors import UserInputError


def test_a_list_of_presets_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    for text, message in (
        ("presets: [fig22]", r'no preset "fig22".*Did you mean "fig2"'),
        ("presets: []", "has to be a list of names"),
        ("presets: [fig2]\nmodel: gpt2", 'no key "model"'),
    ):
        file.write_text(text)
        with pytest.raises(UserInputError, match=message):
            load_suite(str(file))


def test_a_suite_has_a_directory_for_each_choice_of_models_and_size() -> None:
    assert load_suite("paper").directory == Path("results/paper")
    suite = load_suite("paper", size="paper", models=["gpt2"])
    assert suite.directory == Path("results/paper-paper-gpt2")
    assert all([m.name for m in matrix.models] == ["gpt2"] for matrix in suite.matrices.values())


@pytest.fixture(scope="module")
def few_prompts() -> Iterator[None]:
    """Presets as they stand, but with one draw of as few prompts as there can be."""

    def few(file: Path) -> dict[str, object]:
        data = read_file(file)
        return data | (
            {"prompts": {"train": 1, "test": 1, "shifted": 0}} if "tasks" in data else {}
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "read_file", few)
        yield


@pytest.fixture(scope="module")
def suite(few_prompts: None, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a suite of two presets on a tiny model."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "mine.yaml").write_text("presets: [fig8, fig3]")
    arguments = ["run", str(folder / "mine.yaml"), "--model", str(tiny_folder)]
    arguments += ["--output", str(folder / "results")]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    assert "2 presets. 4 cells to compute" in first.output
    again = CliRunner().invoke(app, arguments)
    assert "4 cells are done already; 0 cells to compute." in again.output
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


def test_runs_of_a_suite_are_compared_one_by_one(suite: Path) -> None:
    with pytest.raises(UserInputError, match="Leave out --output and --against"):
        CliRunner().invoke(
            app, ["report", str(suite), "--output", "elsewhere"], catch_exceptions=False
        )


def test_a_damaged_run_in_a_suite_is_mended_by_the_same_command(
    suite: Path, tiny_folder: Path
) -> None:
    next((suite / "fig8" / "cells").glob("*/cell.json")).write_text("{")
    (suite / "fig3" / "run.json").write_text("{")
    arguments = ["run", str(suite.parent / "mine.yaml"), "--model", str(tiny_folder)]
    arguments += ["--output", str(suite)]
    mended = CliRunner().invoke(app, arguments)
    assert mended.exit_code == 0, mended.output
    again = CliRunner().invoke(app, arguments)
    assert "4 cells are done already; 0 cells to compute." in again.output


def test_only_some_cells_of_a_suite(suite: Path, tiny_folder: Path) -> None:
    arguments = ["run", str(suite.parent / "mine.yaml"), "--model", str(tiny_folder)]
    arguments += ["--output", str(suite), "--only"]
    some = CliRunner().invoke(app, [*arguments, "method=dla"])
    assert some.exit_code == 0, some.output
    assert "Without such a cell: fig3." in some.output
    wrong = CliRunner().invoke(app, [*arguments, "method=dlaa"])
    assert 'no cell has the method "dlaa"' in str(wrong.exception)


@pytest.mark.usefixtures("forked_workers")
def test_the_last_lines_say_how_to_see_what_failed(
    suite: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "fig3").mkdir()
    (tmp_path / "fig3" / "notes.txt").write_text("somebody's own")
    arguments = ["run", str(suite.parent / "mine.yaml"), "--output", str(tmp_path)]
    ended = CliRunner().invoke(
        app, [*arguments, "--model", str(tiny_folder), "--cell-timeout", "0.001"]
    )
    assert ended.exit_code == 2, ended.output
    assert ended.stdout.splitlines()[-2:] == [
        f"fig8: 3 cells failed: python -m bench status {tmp_path / 'fig8'}",
        "fig3: could not be run; its error stands above.",
    ]
    assert [file.name for file in (tmp_path / "fig3").iterdir()] == ["notes.txt"]
