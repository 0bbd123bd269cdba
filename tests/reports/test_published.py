"""Published results: the file says what the run says, the page what the file says, and no lie."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.execution.run import run_matrix
from reports.figures.curves import localisation_data, price_data
from reports.load import Results, load
from reports.missing import NOT_COMPUTED, Missing
from reports.published.cells import published_of
from reports.published.findings import findings, summary
from reports.published.page import CIRCUITS, DATA, FINDING, TABLE, over_tasks, page_of, pictures
from reports.published.record import MOST_BYTES, Published, parse, problems, read, text_of
from reports.published.results import load_published, results_of
from reports.published.write import circuits_in, publish
from reports.tables.finding import steering
from tasks.errors import UserInputError
from tests.reports.cells import HOSTILE
from tests.small import small_matrix

WORDS = (
    *("model", "task", "method", "against_best", "against_controls", "localises"),
    "map_changes",
)
DOCS = Path(__file__).parents[2] / "docs"
COMMITTED = [file.parent for file in DOCS.glob("*/results.json")]


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    matrix = small_matrix(
        tiny_folder,
        controls={"draws": 1, "shuffles": 1, "shuffle_trained": False},
        positions="last",
        prompts={"train": 2, "test": 4, "shifted": 0},
        prices={"at": [0.3], "curve": True},
        localisation={"k": [1, 3]},
        retrained={"k": [2], "draws": 0, "steps": 2, "train": 2},
        sanity={"depths": 1},
        specificity={"prompts": 2, "windows": 2, "tasks": ["ioi", "ccc"]},
    )
    outcome = run_matrix(matrix, tmp_path_factory.mktemp("runs") / "run")
    assert not outcome.failed
    return outcome.store.directory


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "results"
    assert publish(run, folder) == folder.with_suffix(".md")
    return folder


@pytest.fixture(scope="module")
def published(folder: Path) -> Results:
    return load_published(folder / DATA)


def test_the_file_says_what_the_run_says(run: Path, published: Results) -> None:
    """Verdicts to the letter; numbers to the digits that are kept of every prompt."""
    ours, theirs = summary(published), summary(load(run))
    for name in ours.columns:
        if name in WORDS:
            assert list(ours[name]) == list(theirs[name]), name
        else:
            same = [ours[name].astype(float), theirs[name].astype(float)]
            np.testing.assert_allclose(*same, rtol=2e-4, atol=1e-4, err_msg=name)
    for data in (price_data, localisation_data):
        one, other = data(published), data(load(run))
        np.testing.assert_allclose(one["E_0"], other["E_0"], rtol=2e-4, atol=1e-4)


def test_the_page_is_what_the_file_gives(folder: Path) -> None:
    assert_whole(folder)
    text = folder.with_suffix(".md").read_text("utf-8")
    assert "map changes" in text
    assert "KL neutral" in text
    assert "missing" not in text
    assert [line[:5] for line in text.splitlines() if line[:1].isdigit()] == [
        f"{place}. **" for place in range(1, 6)
    ]


@pytest.mark.parametrize("committed", COMMITTED, ids=lambda folder: folder.name)
def test_published_pages_are_what_their_files_give(committed: Path) -> None:
    assert_whole(committed)
    for file in committed.glob("*.json"):
        assert not problems(read(file)), file


def assert_whole(folder: Path) -> None:
    """The page, its table and pictures are those of the files, which are small."""
    results, circuits = load_published(folder / DATA), circuits_in(folder)
    assert folder.with_suffix(".md").read_text("utf-8") == page_of(results, folder.name, circuits)
    stems = {stem for stem, *_ in pictures(results)}
    assert {file.stem for file in folder.glob("*.png")} == stems | (
        {FINDING} if circuits else set()
    )
    files = [*folder.glob("*.json"), folder / TABLE]
    assert sum(file.stat().st_size for file in files) <= MOST_BYTES


def test_finding_known_circuits_is_a_section_of_its_own(run: Path, tmp_path: Path) -> None:
    """Its numbers are those of the run on planted models, and go with the next publication."""
    truth = tmp_path / "truth"
    matrix = small_matrix(
        "planted-backup-0",
        tasks=["planted"],
        methods=["attr_patch", "grad_scalar", "dla", "direct_effect"],
        controls={"draws": 0, "shuffles": 0},
        prompts={"train": 2, "test": 3, "shifted": 0},
        localisation={"k": [1, 4]},
    )
    assert not run_matrix(matrix, truth).failed
    folder = tmp_path / "results"
    with pytest.raises(UserInputError, match="nothing was published"):
        publish(run, folder, circuits=run)
    assert not folder.exists()
    publish(run, folder, circuits=truth)
    assert_whole(folder)
    columns = ["rho", "low", "high"]
    ours, theirs = (steering(one) for one in (load_published(folder / CIRCUITS), load(truth)))
    assert list(ours["measure"]) == list(theirs["measure"]) == ["steering", "localisation"]
    np.testing.assert_allclose(ours[columns].astype(float), theirs[columns].astype(float))
    assert not problems(read(folder / CIRCUITS))
    publish(run, folder)
    assert_whole(folder)
    assert not (folder / CIRCUITS).exists()


def test_whatever_a_run_holds_the_page_is_what_its_file_gives(
    run_directory: Path, tmp_path: Path
) -> None:
    """Two tasks, failed cells, undefined numbers, no price, and strings that would act."""
    text = publish(run_directory, tmp_path / "results").read_text("utf-8")
    assert_whole(tmp_path / "results")
    found = problems(read(tmp_path / "results" / DATA))
    assert found, "this run has an E_0 above 0, which is no mean of any prompts"
    assert all(one.startswith("hostile-steer_vec") and "is 0.00833676" in one for one in found)
    assert "hostile: 1 failed" in text
    assert "it knows where: on" in text
    assert not [word for word in HOSTILE if word in text]


def test_what_is_undecided_is_counted_apart_from_what_was_not_found(run: Path) -> None:
    """By hand from the verdicts: 'prices differ' is no answer, 'not told apart' is one."""
    rows = summary(load(run))
    method = rows[~rows["control"].astype(bool)].iloc[[0]]
    said = ["prices differ from random", "not told apart from random", "localises"]
    rows = pd.concat([method.assign(task=f"task {n}", localises=one) for n, one in enumerate(said)])
    assert "1 of 3 tasks, 1 undecided" in set(over_tasks(rows)["it knows where: on"])
    assert "undecided, since prices differ or prompts are few: 1 of 3" in findings(rows)[1]


def test_a_partial_run_says_which_task_is_missing(run: Path) -> None:
    results = load(run)
    planned = {"model": results.records[0].model, "task": "gender", "method": "dla"}
    absent = Missing(cell="a cell", status=NOT_COMPUTED, reason="not yet", **planned)
    content = text_of(published_of(replace(results, missing=(absent,)))).encode()
    text = page_of(results_of(parse(content, Path("x.json")), "x.json"), "results")
    assert "Tasks without any result: `gender`" in text
    assert "gender: 1 not computed" in text


@pytest.mark.parametrize("where", ["E_0", "paid", "e_0", "unsteered"])
def test_a_number_that_was_changed_is_found(folder: Path, where: str) -> None:
    content = json.loads((folder / DATA).read_text("utf-8"))
    row = content["cells"][3]["measured"][1]
    if where == "unsteered":
        content["prompts"][0]["E_0_unsteered"] *= 0.9
    elif where == "e_0":
        row["e_0"][0] -= 1.0
    else:
        row[where] = row[where] * 0.9 - 0.01
    found = problems(Published.model_validate(content))
    assert len(found) == 1
    assert not problems(read(folder / DATA))


def test_verify_computes_cells_again(folder: Path, tmp_path: Path) -> None:
    """All of them, those too that start from another; one that was made up is found out."""
    command = CliRunner()
    file = folder / DATA
    said = command.invoke(app, ["verify", str(file)])
    assert said.exit_code == 0
    assert "self-reported" in said.output
    published = read(file)
    again = command.invoke(app, ["verify", str(file), "--recompute", "99"])
    assert again.exit_code == 0, again.output
    assert f"{len(published.cells)} cells computed again agree" in again.output
    one = next(cell for cell in published.cells if cell.control)
    rows = [row.model_copy(update={"E_0": row.E_0 / 2, "e_0": [x / 2 for x in row.e_0]})
            for row in one.measured]  # fmt: skip
    lie = published.model_copy(update={"cells": [one.model_copy(update={"measured": rows})]})
    (tmp_path / DATA).write_text(text_of(lie))
    again = command.invoke(app, ["verify", str(tmp_path / DATA), "--recompute", "1"])
    assert again.exit_code == 1
    assert "differs" in again.output


def test_what_publish_did_not_write_stays(run: Path, tmp_path: Path) -> None:
    (tmp_path / "results.md").write_text("my own")
    with pytest.raises(UserInputError, match="did not write it"):
        publish(run, tmp_path / "results")
    (tmp_path / "results.json").write_text('{"format": 1}')
    with pytest.raises(UserInputError, match="no file of published results"):
        read(tmp_path / "results.json")
