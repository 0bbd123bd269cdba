"""Two runs against each other: what changed, what did not, and what cannot be said."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.store.results import RunStore
from bench.store.run_record import PlannedRecord
from reports.load import Results, load
from reports.tables import change
from reports.text import number
from reports.write import ReportOptions, write_report
from tests.reports.cells import StoredCell, make_cell, make_failure, stored, with_prompts


def run(directory: Path, *cells: StoredCell, plan: Any = None) -> Results:
    return stored(RunStore.create(directory, {}, plan=plan), *cells)


def with_ld(cell: StoredCell, ld: Any) -> StoredCell:
    return cell[0], cell[1] | {"split.test.ld": cell[1]["split.test.ld"] + ld}


STAR = np.arange(5) == 3
"""Where the logit differences at beta* are."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of the same matrix, of which one did better on attr_patch, and more."""
    folder = tmp_path_factory.mktemp("runs")
    methods = ("dla", "attr_patch", "grad_scalar", "activ_patch", "steer_vec")
    there = {method: make_cell("ccc", method) for method in methods}
    settings = there["attr_patch"][0].settings | {"margin": 2.0}
    changed = there["attr_patch"][0].model_copy(update={"settings": settings})
    shuffled = np.random.default_rng(0).permutation([0.4, -0.4] * 6)[:, None]
    here = {
        **there,
        "attr_patch": with_ld((changed, there["attr_patch"][1]), 0.3 * STAR),
        "activ_patch": with_ld(there["activ_patch"], shuffled * STAR),
        "grad_scalar": with_ld(there["grad_scalar"], 1e-6),
        "steer_vec": with_prompts(there["steer_vec"], foil_id=9),
        **{method: make_cell("ccc", method) for method in ("dyn_scalar", "activ_scalar")},
    }
    run(folder / "new", *here.values())
    run(folder / "old", *there.values(), make_failure("ccc", "activ_scalar"))
    return folder / "new", folder / "old"


def test_every_cell_has_its_verdict(runs: tuple[Path, Path]) -> None:
    frame = change.table(*map(load, runs)).set_index("method")
    assert frame["verdict"].to_dict() == {
        "dla": change.SAME,
        "grad_scalar": change.SAME,
        "attr_patch": change.BETTER,
        "activ_patch": change.NO_CHANGE,
        "steer_vec": change.OTHER_PROMPTS,
        "dyn_scalar": "only here",
        "activ_scalar": "failed there",
    }
    row = frame.loc["attr_patch"]
    assert row["settings_changed"] == "margin=2 (there 1)"
    assert row["p_holm"] < 0.05
    assert row["difference"] == pytest.approx(row["E_0_here"] - row["E_0_there"])
    assert row["low"] <= row["difference"] <= row["high"]
    assert frame.loc["dyn_scalar", "E_0_here"] is None  # nothing to compare with: no number
    assert frame.loc["steer_vec", "beta_here"] is None  # trained
    turned = change.table(*map(load, reversed(runs))).set_index("method")
    assert turned.loc["attr_patch", "verdict"] == change.WORSE
    assert turned.loc["dyn_scalar", "verdict"] == "only there"


def test_the_report_has_what_changed_of_the_same_part(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    options = ReportOptions(figures=["leaderboard"], against=runs[1])
    index = write_report(runs[0], tmp_path / "report", options)
    page = index.read_text("utf-8")
    assert "<h2>Against old</h2>" in page
    assert "the same 2" in page
    frame = change.table(*map(load, runs)).set_index("method")
    shown = number(frame.loc["attr_patch", "difference"])
    assert f"<td>{shown}</td>" in page
    assert shown in (index.parent / "tables" / "change.md").read_text("utf-8")
    assert (index.parent / "tables" / "change.tex").is_file()
    part = ReportOptions(
        methods=["attr_patch", "dyn_scalar"], figures=["critical"], against=runs[1]
    )
    index = write_report(runs[0], tmp_path / "report", part)
    frame = pd.read_csv(index.parent / "tables" / "change.csv").set_index("method")
    assert frame["verdict"].to_dict() == {"attr_patch": change.BETTER, "dyn_scalar": "only here"}


def rated(*rates: float) -> Iterator[StoredCell]:
    """Cells of several learning rates."""
    for rate in rates:
        settings = {"method": {"name": "activ_scalar", "learning_rate": rate}}
        record, tensors = make_cell("ccc", "activ_scalar", id=f"{rate:g}", settings=settings)
        yield record.model_copy(update={"method": f"activ_scalar[learning_rate={rate:g}]"}), tensors


@pytest.mark.parametrize(
    ("here", "there", "rows"),
    [
        ([0.02], [0.01], [(0.02, "method.learning_rate=0.02 (there 0.01)", change.SAME)]),
        (
            [0.01, 0.02, 0.05],
            [0.02],
            [(0.01, "", "only here"), (0.02, "", change.SAME), (0.05, "", "only here")],
        ),
        # nobody knows which of two became the third
        (
            [0.1, 0.2],
            [0.3],
            [(0.1, "", "only here"), (0.2, "", "only here"), (0.3, "", "only there")],
        ),
    ],
)
def test_of_several_settings_the_nearest_belong_together(
    tmp_path: Path, here: list[float], there: list[float], rows: list[tuple[float, str, str]]
) -> None:
    frame = change.table(run(tmp_path / "a", *rated(*here)), run(tmp_path / "b", *rated(*there)))
    rates = frame["method"].str.extract(r"=([0-9.]+)\]")[0].astype(float)
    found = zip(rates, frame["settings_changed"], frame["verdict"], strict=True)
    assert sorted(found) == rows


def test_draws_of_prompts_are_different_cells(tmp_path: Path) -> None:
    cells = [
        with_prompts(
            make_cell("ccc", "dla", id=f"draw-{seed}", settings={"prompts": {"seed": seed}}),
            answer_id=seed,
        )
        for seed in (0, 1, 2)
    ]
    worse = [with_ld(cell, -1) for cell in cells[:2]]
    frame = change.table(run(tmp_path / "a", *cells), run(tmp_path / "b", *worse))
    assert frame["prompts_seed"].tolist() == [0, 1, 2]
    assert frame["verdict"].tolist() == [change.BETTER, change.BETTER, "only here"]
    assert frame["n_prompts"].tolist()[:2] == [12, 12]


def test_few_prompts_say_so_and_their_order_is_nothing(tmp_path: Path) -> None:
    dla = make_cell("ccc", "dla")
    few = with_prompts(dla, slice(3))
    whole = run(tmp_path / "whole", dla)
    for other, verdict, shared in (
        (with_prompts(dla, slice(None, 1, -1)), change.SAME, 10),
        (with_ld(few, -1), "too few prompts to tell (3; 1 comparison needs 6)", 3),
    ):
        (row,) = change.table(whole, run(tmp_path / verdict[:3], other)).to_dict("records")
        assert (row["verdict"], row["n_prompts"]) == (verdict, shared)


def test_what_is_no_number_or_not_computed_there_is_said_so(tmp_path: Path) -> None:
    dla, attr = make_cell("ccc", "dla"), make_cell("ccc", "attr_patch")
    plan = [
        PlannedRecord(one.id, one.model, one.task, one.method, False, False, 0, 0, {})
        for one, _ in (dla, attr)
    ]
    there = run(tmp_path / "b", with_ld(dla, np.nan), plan=plan)
    frame = change.table(run(tmp_path / "a", dla, attr), there).set_index("method")
    assert frame["verdict"].to_dict() == {
        "dla": "undefined: E₀ of the other is no number on 12 of 12 prompts",
        "attr_patch": "not computed there",
    }
