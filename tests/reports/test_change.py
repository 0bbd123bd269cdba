"""Two runs against each other: what changed, what did not, and what cannot be said."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.store.records import CellRecord
from bench.store.results import RunStore
from bench.store.run_record import PlannedRecord
from reports.load import Results, load
from reports.tables import change
from reports.text import number
from reports.write import ReportOptions, write_report
from tests.reports.conftest import make_cell, make_failure


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs of the same matrix, of which one did better on attr_patch, and more."""
    here, there = (RunStore.create(tmp_path / name, {}) for name in ("new", "old"))
    generator = np.random.default_rng(0)
    for method in ("dla", "attr_patch", "grad_scalar", "activ_patch", "steer_vec"):
        record, tensors = make_cell("ccc", method)
        there.write(record, tensors)
        ld = tensors["split.test.ld"].copy()
        if method == "attr_patch":
            ld[:, 3] += 0.3
        if method == "activ_patch":
            ld[:, 3] += generator.permutation([0.4, -0.4] * 6)
        if method == "grad_scalar":
            ld += 1e-6
        if method == "steer_vec":
            prompts = {
                "test": [p.model_copy(update={"foil_id": 9}) for p in record.prompts["test"]]
            }
            record = record.model_copy(update={"prompts": record.prompts | prompts})
        if method == "attr_patch":
            record = record.model_copy(update={"settings": record.settings | {"margin": 2.0}})
        here.write(record, tensors | {"split.test.ld": ld})
    here.write(*make_cell("ccc", "dyn_scalar"))
    there.write(make_failure("ccc", "activ_scalar", "out of memory"), {})
    here.write(*make_cell("ccc", "activ_scalar"))
    return here.directory, there.directory


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
    assert frame.loc["attr_patch", "settings_changed"] == "margin=2 (there 1)"
    assert frame.loc["attr_patch", "p_holm"] < 0.05
    row = frame.loc["attr_patch"]
    assert row["difference"] == pytest.approx(row["E_0_here"] - row["E_0_there"])
    assert row["low"] <= row["difference"] <= row["high"]
    assert frame.loc["dyn_scalar", "E_0_here"] is None  # nothing to compare with: no number
    assert frame.loc["steer_vec", "beta_here"] is None  # trained
    turned = change.table(*map(load, reversed(runs))).set_index("method")
    assert turned.loc["attr_patch", "verdict"] == change.WORSE
    assert turned.loc["dyn_scalar", "verdict"] == "only there"


def test_the_report_has_what_changed(runs: tuple[Path, Path], tmp_path: Path) -> None:
    options = ReportOptions(figures=["leaderboard"], against=runs[1])
    index = write_report(runs[0], tmp_path / "report", options)
    page = index.read_text("utf-8")
    assert "<h2>Against old</h2>" in page
    assert "the same 2" in page
    frame = change.table(*map(load, runs)).set_index("method")
    shown = number(frame.loc["attr_patch", "difference"])
    assert f"<td>{shown}</td>" in page
    assert shown in (index.parent / "tables" / "change.md").read_text("utf-8")
    assert (index.parent / "tables" / "change.csv").is_file()
    assert (index.parent / "tables" / "change.tex").is_file()


def test_a_part_of_a_run_is_compared_with_the_same_part(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    options = ReportOptions(
        methods=["attr_patch", "dyn_scalar"], figures=["leaderboard"], against=runs[1]
    )
    index = write_report(runs[0], tmp_path / "report", options)
    frame = pd.read_csv(index.parent / "tables" / "change.csv").set_index("method")
    assert frame["verdict"].to_dict() == {"attr_patch": change.BETTER, "dyn_scalar": "only here"}


def test_few_prompts_say_so(tmp_path: Path) -> None:
    stores = [RunStore.create(tmp_path / name, {}) for name in ("a", "b")]
    record, tensors = make_cell("ccc", "dla")
    few = record.model_copy(update={"prompts": {"test": record.prompts["test"][:3]}})
    for place, store in enumerate(stores):
        part = {n: t[:3] for n, t in tensors.items() if n in ("split.test.ld", "split.test.kl")}
        part["split.test.ld"] = part["split.test.ld"] - place
        store.write(few, part | {"split.test.beta": tensors["split.test.beta"]})
    frame = change.table(*(load(store.directory) for store in stores))
    assert frame["verdict"].tolist() == ["too few prompts to tell (3; 1 comparison needs 6)"]


def _run(directory: Path, *cells: tuple[CellRecord, dict[str, Any]], plan: Any = None) -> Results:
    store = RunStore.create(directory, {}, plan=plan)
    for record, tensors in cells:
        store.write(record, tensors)
    return load(directory)


def _with(method: str, name: str, **settings: Any) -> tuple[CellRecord, dict[str, Any]]:
    """A cell with settings of its method and of its prompts (`prompts_seed`)."""
    record, tensors = make_cell("ccc", method)
    seed = settings.pop("prompts_seed", 0)
    shown = ",".join(f"{key}={value}" for key, value in settings.items())
    whole = record.settings | {
        "method": {"name": method, **settings},
        "prompts": {"train": 4, "seed": seed},
    }
    changes = {"id": name, "settings": whole, "method": f"{method}[{shown}]" if shown else method}
    if seed:
        changes["prompts"] = {
            split: [
                p.model_copy(update={"answer_id": 900 + seed * 50 + n}) for n, p in enumerate(of)
            ]
            for split, of in record.prompts.items()
        }
    return record.model_copy(update=changes), tensors


def test_of_several_settings_the_nearest_belong_together(tmp_path: Path) -> None:
    def run(name: str, *rates: float) -> Results:
        cells = [_with("activ_scalar", f"{rate:g}", learning_rate=rate) for rate in rates]
        return _run(tmp_path / name, *cells)

    def verdicts(here: Results, there: Results) -> dict[str, tuple[str, str]]:
        frame = change.table(here, there)
        rates = frame["method"].str.extract(r"=([0-9.]+)\]")[0]
        return dict(zip(rates, zip(frame["settings_changed"], frame["verdict"])))  # noqa: B905

    changed = change.table(run("new", 0.02), run("old", 0.01)).iloc[0]
    assert changed["settings_changed"] == "method.learning_rate=0.02 (there 0.01)"
    assert changed["verdict"] == change.SAME
    grid = run("grid", 0.01, 0.02, 0.05)
    assert verdicts(grid, run("one", 0.02)) == {
        "0.01": ("", "only here"), "0.02": ("", change.SAME), "0.05": ("", "only here"),
    }  # fmt: skip
    # nobody knows which of two became the third
    assert verdicts(run("two", 0.1, 0.2), run("third", 0.3)) == {
        "0.1": ("", "only here"), "0.2": ("", "only here"), "0.3": ("", "only there"),
    }  # fmt: skip


def test_draws_of_prompts_are_different_cells(tmp_path: Path) -> None:
    draws = [_with("dla", f"draw-{seed}", prompts_seed=seed) for seed in (0, 1, 2)]
    worse = [
        (record, tensors | {"split.test.ld": tensors["split.test.ld"] - 1})
        for record, tensors in draws
    ]
    frame = change.table(_run(tmp_path / "a", *draws), _run(tmp_path / "b", *worse[:2]))
    assert frame["prompts_seed"].tolist() == [0, 1, 2]
    assert frame["verdict"].tolist() == [change.BETTER, change.BETTER, "only here"]
    assert frame["n_prompts"].tolist()[:2] == [12, 12]


def test_the_same_prompts_in_another_order_are_the_same_prompts(tmp_path: Path) -> None:
    record, tensors = make_cell("ccc", "dla")
    turned = {"test": list(reversed(record.prompts["test"][2:]))}
    moved = record.model_copy(update={"prompts": record.prompts | turned})
    other = tensors | {n: tensors[n][2:][::-1] for n in ("split.test.ld", "split.test.kl")}
    frame = change.table(
        _run(tmp_path / "a", (record, tensors)), _run(tmp_path / "b", (moved, other))
    )
    assert frame["verdict"].tolist() == [change.SAME]
    assert frame["n_prompts"].tolist() == [10]


def test_what_is_no_number_or_not_computed_there_is_said_so(tmp_path: Path) -> None:
    dla, attr = make_cell("ccc", "dla"), make_cell("ccc", "attr_patch")
    undefined = dla[1] | {"split.test.ld": np.full_like(dla[1]["split.test.ld"], np.nan)}
    plan = [
        PlannedRecord(one.id, one.model, one.task, one.method, False, False, 0, 0, {})
        for one, _ in (dla, attr)
    ]
    there = _run(tmp_path / "b", (dla[0], undefined), plan=plan)
    frame = change.table(_run(tmp_path / "a", dla, attr), there).set_index("method")
    assert frame["verdict"].to_dict() == {
        "dla": "undefined: E₀ of the other is no number on 12 of 12 prompts",
        "attr_patch": "not computed there",
    }
