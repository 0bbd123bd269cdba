"""What a run has no result for is named: on the page, in the tables, in the leaderboard."""

from pathlib import Path

import pytest

from bench.store.files import set_aside
from bench.store.layout import CELL_FILE, TENSOR_FILE
from bench.store.results import RunStore
from bench.store.run_record import PlannedRecord
from reports import missing
from reports.labels import missing_by_label
from reports.load import Results, load
from reports.present import formatted
from reports.tables.leaderboard import leaderboard
from reports.terminal import terminal_tables
from reports.write import ReportOptions, write_report
from tests.reports.cells import asked, make_cell, make_failure, stored

MODEL = "smollm2-135m"


def planned(cell_id: str, method: str, **changes: object) -> PlannedRecord:
    one = PlannedRecord(cell_id, MODEL, "ccc", method, False, False, 0, 0, {})
    return one._replace(**changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """Of eight cells two are done; the others miss for every reason that there is."""
    cells = [make_cell("ccc", name) for name in ("dla", "attr_patch", "grad_scalar")]
    cells += [make_cell("ccc", "activ_scalar", seed=seed) for seed in (0, 1)]
    cells += [make_failure("ccc", "steer_vec")]
    plan = [planned(one.id, one.method, seed=one.seed) for one, _ in cells]
    plan += [planned("aside", "dyn_scalar"), planned("never", "activ_patch", task="ioi")]
    del cells[4]
    store = RunStore.create(tmp_path_factory.mktemp("runs") / "run", {}, plan=plan)
    stored(store, *cells, make_cell("ccc", "dyn_scalar"))  # the last is of another matrix
    (store.cell_directory(plan[1].id) / CELL_FILE).write_text("{")
    with (store.cell_directory(plan[2].id) / TENSOR_FILE).open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x7f")
    (store.directory / "cells" / "aside").mkdir()
    set_aside(store.directory, store.directory / "cells" / "aside", "cut off")
    return store


@pytest.fixture(scope="module")
def results(store: RunStore) -> Results:
    return load(store.directory)


def test_the_plan_comes_back(store: RunStore) -> None:
    again = RunStore.open(store.directory)
    assert list(again.plan) == again.planned
    assert again.plan["never"] == planned("never", "activ_patch", task="ioi")
    assert RunStore(store.directory, {"cells": ["a"]}).plan == {}


def test_every_planned_cell_has_a_result_or_is_named(store: RunStore, results: Results) -> None:
    frame = missing.table(results)
    assert set(zip(frame["method"], frame["status"], strict=True)) == {
        ("steer_vec", "failed"),
        ("attr_patch", "damaged"),
        ("grad_scalar", "damaged"),
        ("dyn_scalar", "set aside"),
        ("activ_scalar", "not computed"),
        ("activ_patch", "not computed"),
        ("dyn_scalar", "of another matrix"),
    }
    done = {record.id for record in results.records if record.status == "done"}
    named = set(frame[frame["status"] != "of another matrix"]["cell"])
    assert done | named == set(store.planned or [])
    assert not done & named
    reasons = frame.set_index("cell")["reason"]
    assert reasons["aside"] == "cut off"
    assert "out of memory" in reasons["ccc-steer_vec-failed"]
    assert "is not the file" in reasons["ccc-grad_scalar-0-0"]
    chosen = results.only(methods=["grad_scalar"])
    assert [one.method for one in chosen.missing] == ["grad_scalar"]
    assert missing.table(results, task="ccc")["task"].unique().tolist() == ["ccc"]


def test_the_leaderboard_names_methods_without_cells(results: Results) -> None:
    board = leaderboard(results, MODEL, "ccc").set_index("method")
    assert board["status"].to_dict() == {
        "dla": "done",
        "activ_scalar": "partly computed",
        "attr_patch": "damaged",
        "grad_scalar": "damaged",
        "steer_vec": "failed",
        "dyn_scalar": "set aside",
    }
    assert board["n_missing"].sum() == 5
    assert board.loc["grad_scalar", "E_0_test"] is None
    shown = formatted(board.reset_index()).set_index("method")
    assert shown.loc["activ_scalar", "status"].startswith("partly computed: not computed: the ")
    assert shown.loc["grad_scalar", "kind"] == "untrained"


def test_page_markdown_table_and_terminal_name_them(store: RunStore, tmp_path: Path) -> None:
    index = write_report(store.directory, tmp_path / "out", ReportOptions(figures=["critical"]))
    page = index.read_text("utf-8")
    markdown = (index.parent / "tables" / "missing.md").read_text("utf-8")
    assert "2 done" in page
    assert "6 without a result" in page
    for word in ("damaged", "set aside", "not computed", "of another matrix", "activ_patch", "ioi"):
        assert f">{word}<" in page
        assert f"| {word.replace('_', chr(92) + '_')} |" in markdown
    last = list(terminal_tables(load(store.directory)))[-1]
    assert str(last.title) == "6 cells without a result"


def test_a_cell_never_computed_goes_with_those_of_its_grid_values(tmp_path: Path) -> None:
    plan, cells = [], []
    for weight in (0.0, 1.0, 2.0):
        for draw in (0, 1):
            settings = asked(objective={"lambda_f": weight}, prompts={"train": 4, "seed": draw})
            varied = {"objective.lambda_f": weight, "prompts.seed": draw}
            plan.append(planned(f"{weight:g}-{draw}", "activ_scalar", trained=True, varied=varied))
            cells.append(make_cell("ccc", "activ_scalar", id=plan[-1].id, settings=settings))
    store = RunStore.create(tmp_path / "grid", {}, plan=plan)
    stored(store, *cells[:4])
    (store.cell_directory("1-1") / TENSOR_FILE).unlink()
    found = missing_by_label(load(store.directory), MODEL, "ccc")
    assert {label: [one.cell for one in cells] for label, cells in found.items()} == {
        "activ_scalar · lambda_f=1": ["1-1"],
        "activ_scalar · lambda_f=2": ["2-0", "2-1"],
    }


def test_a_run_that_does_not_say_its_plan_names_what_is_damaged(small_store: RunStore) -> None:
    stored(small_store, make_cell("ccc", "dla"), make_cell("ccc", "attr_patch"))
    (small_store.cell_directory("ccc-attr_patch-0-0") / CELL_FILE).write_text("{")
    results = load(small_store.directory)
    assert [one.method for one in results.records] == ["dla"]
    (one,) = results.missing
    assert (one.cell, one.status, one.method) == ("ccc-attr_patch-0-0", "damaged", None)
    assert "cut off" in one.reason
