"""Two runs against each other: what changed, what did not, and what cannot be said."""

from pathlib import Path

import numpy as np
import pytest

from bench.results import RunStore
from reports.load import load
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
            prompts = {"test": [*record.prompts["test"][1:], record.prompts["test"][0]]}
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
    assert frame.loc["attr_patch", "settings_changed"] == "margin"
    assert frame.loc["attr_patch", "p_holm"] < 0.05
    row = frame.loc["attr_patch"]
    assert row["difference"] == pytest.approx(row["E_0_here"] - row["E_0_there"])
    assert row["low"] <= row["difference"] <= row["high"]
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


def test_few_prompts_say_so(tmp_path: Path) -> None:
    stores = [RunStore.create(tmp_path / name, {}) for name in ("a", "b")]
    record, tensors = make_cell("ccc", "dla")
    few = record.model_copy(update={"prompts": {"test": record.prompts["test"][:3]}})
    for place, store in enumerate(stores):
        part = {n: t[:3] for n, t in tensors.items() if n in ("split.test.ld", "split.test.kl")}
        part["split.test.ld"] = part["split.test.ld"] - place
        store.write(few, part | {"split.test.beta": tensors["split.test.beta"]})
    frame = change.table(*(load(store.directory) for store in stores))
    assert frame["verdict"].tolist() == [change.TOO_FEW]
