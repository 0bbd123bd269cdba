"""Whether finding goes with steering, from stored results alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

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


def stored(
    directory: Path,
    auroc: dict[str, float],
    *,
    against: bool = False,
    steered: bool = True,
    by: str = "auroc",
) -> Results:
    """A run of two models in which steering goes with, or against, finding: AUROC or CPR."""
    store = RunStore.create(directory, {"preset": "test"}, suite_version="0")
    for seed in range(2):
        for method, found in {**auroc, "random": 0.5}.items():
            finding = {
                "family": "conflict",
                "group": "components",
                "n_points": 40,
                "n_causal": 4,
                **{"auroc": found, "auroc_signed": None, "average_precision": found},
                **{"precision": 0.5, "points": [("attn_out", 1, 2, "causal")]},
                **{"false_positives": {"decoy": 2.0}, "misses": {"causal": 2.0}},
            }
            share = 1 - found if against else found
            record, tensors = make_cell("planted", method)
            at_price = [
                row.model_copy(update={"beta_kind": "price", "price": 0.3, "E_0": -2 * (1 - share)})
                for row in record.metrics
                if steered and row.split == "test"
            ]
            changes = {
                **{"id": f"{method}-{seed}", "model": f"planted-conflict-{seed}"},
                **({"finding": [finding]} if by == "auroc" else {"circuit": circuit_with(found)}),
                "task": "planted",
                "prices": [{"price": 0.3, "beta": 1.0, "paid": 0.3, "E_0": -1.0}]
                if steered
                else [],
                "metrics": [one.model_copy(update={"E_0_unsteered": -2.0}) for one in at_price],
            }
            changed = type(record).model_validate(record.model_dump() | changes)
            store.write(changed, {"scores": tensors["scores"]})
    return load(directory)


@pytest.mark.parametrize("by", ["auroc", "CPR"])
def test_the_rank_correlation_is_over_methods_and_leaves_out_controls_and_the_check(
    tmp_path: Path, by: str
) -> None:
    for against in (False, True):
        results = stored(tmp_path / str(against), AUROC, against=against, by=by)
        row = TABLES["finding_steering"].table(results).set_index("measure").loc["steering"]
        assert row["finding"] == by
        assert row["rho"] == pytest.approx(-1 if against else 1)
        # ActivPatch made the labels of circuits that are known, and of no CPR
        assert (row["n_blocks"], row["n_methods"]) == (2, 4 if by == "auroc" else 5)
        assert (row["headline"] == "") == (by == "CPR")
        numbers = FIGURES["finding"].numbers(results).set_index("method")
        assert set(numbers["finding"]) == {by}
        assert numbers["found"].to_dict() == pytest.approx({**AUROC, "random": 0.5})
    assert isinstance(FIGURES["finding"].figure(results), Figure)


def test_the_table_of_what_was_found_is_a_mean_over_models(tmp_path: Path) -> None:
    frame = TABLES["finding"].table(stored(tmp_path, AUROC)).set_index("method")
    assert frame.loc["dla", "auroc"] == pytest.approx(0.8)
    assert frame.loc["dla", "n_models"] == 2
    assert frame.loc["dla", ["wrong_decoy", "missed_causal"]].tolist() == [2, 2]
    assert frame.loc["dla", "steering"] == pytest.approx(0.8)
    assert frame["ranked"].to_dict() == {
        name: name not in ("random", "activ_patch") for name in frame.index
    }
    assert frame.index[0] == "activ_patch"


def test_families_that_first_order_methods_solve_are_said_to_be_saturated(tmp_path: Path) -> None:
    assert headline(stored(tmp_path / "hard", AUROC)).startswith("1 of 1 families")
    easy = {**AUROC, "attr_patch": 1.0, "grad_scalar": 1.0}
    assert headline(stored(tmp_path / "easy", easy)).startswith("saturated: only 0 of 1")


def test_the_figure_shows_its_numbers(tmp_path: Path) -> None:
    results = stored(tmp_path, AUROC)
    entry = FIGURES["finding"]
    canvas, numbers = entry.figure(results), entry.numbers(results)
    assert isinstance(canvas, Figure)
    markers = [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in canvas.axes[0].lines
        if line.get_label() in set(numbers["method"])
    ]
    assert sorted(markers) == sorted(zip(numbers["found"], numbers["steering"], strict=True))
    title = canvas.axes[0].get_title(loc="left")
    assert title.startswith(f"rank correlation {number(numbers['rho_steering'][0], 2)}")
    with pytest.raises(UserInputError, match="has no task 'x'"):
        entry.figure(results, task="x")
    with pytest.raises(UserInputError, match="needs a measure of steering"):
        entry.figure(stored(tmp_path / "scores alone", AUROC, steered=False))
