"""Whether finding goes with steering, from stored results alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.store.records import CellRecord
from bench.store.results import RunStore
from reports.figures import FIGURES
from reports.load import Results, load
from reports.tables import TABLES
from reports.tables.finding import headline
from reports.text import number
from tasks.errors import UserInputError
from tests.reports.cells import make_cell

AUROC = {"attr_patch": 0.5, "grad_scalar": 0.6, "dla": 0.8, "atp_star": 0.9, "activ_patch": 1.0}
"""Made up, as is how they steer: the better a method finds, the better it steers."""


SHARES = [0.001, 1.0]


def circuit_with(cpr: float) -> dict[str, object]:
    curve = {"f": [0.0, 1.0], "f_without": [1.0, 0.0], "CMD": 0.1, "CPR_log": 0.1, "CMD_log": 0.1}
    orders = [{**curve, "order": "signed", "CPR": cpr}, {**curve, "order": "absolute", "CPR": 0.0}]
    return {
        **{"split": "test", "n_nodes": 4, "ld_clean": 1.0, "ld_corrupted": -1.0},
        **{"share": SHARES, "k": [0, 4], "curves": orders},
    }


def run(
    directory: Path,
    auroc: dict[str, float] = AUROC,
    *,
    against: bool = False,
    steered: bool = True,
    by: str = "auroc",
) -> Results:
    """A run of two models in which steering goes with, or against, finding: AUROC or CPR."""
    store = RunStore.create(directory, {"preset": "test"}, suite_version="0")
    for method, found in {**auroc, "random": 0.5}.items():
        finding = {
            **{"family": "conflict", "group": "components", "n_points": 40, "n_causal": 4},
            **{"auroc": found, "auroc_signed": None, "average_precision": found},
            **{"precision": 0.5, "points": [("attn_out", 1, 2, "causal")]},
            **{"false_positives": {"decoy": 2.0}, "misses": {"causal": 2.0}},
        }
        record, tensors = make_cell("planted", method)
        reached = -2 * (found if against else 1 - found)
        priced = {"beta_kind": "price", "price": 0.3, "E_0": reached, "E_0_unsteered": -2.0}
        (row, *_) = (row for row in record.metrics if row.split == "test")
        price = {"price": 0.3, "beta": 1.0, "paid": 0.3, "E_0": -1.0}
        changes = {
            **({"finding": [finding]} if by == "auroc" else {"circuit": circuit_with(found)}),
            "prices": [price] if steered else [],
            "metrics": [row.model_copy(update=priced)] if steered else [],
        }
        for seed in range(2):
            named = {"id": f"{method}-{seed}", "model": f"planted-conflict-{seed}"}
            changed = CellRecord.model_validate(record.model_dump() | changes | named)
            store.write(changed, {"scores": tensors["scores"]})
    return load(directory)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize(
    ("by", "against"), [("auroc", False), ("auroc", True), ("CPR", False), ("CPR", True)]
)
def test_the_rank_correlation_is_over_methods_and_leaves_out_controls_and_the_check(
    tmp_path: Path, by: str, against: bool
) -> None:
    results = run(tmp_path, against=against, by=by)
    row = TABLES["finding_steering"].table(results).set_index("measure").loc["steering"]
    assert row["finding"] == by
    assert row["rho"] == pytest.approx(-1 if against else 1)
    # ActivPatch made the labels of circuits that are known, and of no CPR
    assert (row["n_blocks"], row["n_methods"]) == (2, 4 if by == "auroc" else 5)
    assert (row["headline"] == "") == (by == "CPR")
    numbers = FIGURES["finding"].numbers(results).set_index("method")
    assert set(numbers["finding"]) == {by}
    assert numbers["found"].to_dict() == pytest.approx({**AUROC, "random": 0.5})


def test_the_table_of_what_was_found_is_a_mean_over_models(results: Results) -> None:
    frame = TABLES["finding"].table(results).set_index("method")
    row = frame.loc["dla", ["auroc", "steering", "n_models", "wrong_decoy", "missed_causal"]]
    assert row.tolist() == pytest.approx([0.8, 0.8, 2, 2, 2])
    assert frame["ranked"].to_dict() == {
        name: name not in ("random", "activ_patch") for name in frame.index
    }
    assert frame.index[0] == "activ_patch"


def test_families_that_first_order_methods_solve_are_said_to_be_saturated(
    results: Results, tmp_path: Path
) -> None:
    assert headline(results).startswith("1 of 1 families")
    easy = {**AUROC, "attr_patch": 1.0, "grad_scalar": 1.0}
    assert headline(run(tmp_path, easy)).startswith("saturated: only 0 of 1")


@pytest.mark.parametrize("by", ["auroc", "CPR"])
def test_the_figure_shows_its_numbers(results: Results, tmp_path: Path, by: str) -> None:
    entry, results = FIGURES["finding"], results if by == "auroc" else run(tmp_path, by=by)
    canvas, numbers = entry.figure(results), entry.numbers(results)
    markers = [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in canvas.axes[0].lines
        if line.get_label() in set(numbers["method"])
    ]
    assert sorted(markers) == sorted(zip(numbers["found"], numbers["steering"], strict=True))
    title = canvas.axes[0].get_title(loc="left")
    assert title.startswith(f"rank correlation {number(numbers['rho_steering'][0], 2)}")


def test_a_run_without_steering_has_no_figure(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="needs a measure of steering"):
        FIGURES["finding"].figure(run(tmp_path, steered=False))
