"""Circuits in tables and figures: the stored numbers, and intervals that hold them."""

from pathlib import Path

import numpy as np
import pytest

from bench.evaluation import circuit
from bench.execution.run import run_matrix
from reports import style
from reports.figures.circuit import KINDS, data
from reports.load import Results, load
from reports.tables.circuit import AREAS, circuits, table
from tests.reports.test_figures import assert_legible
from tests.small import brief_matrix


@pytest.fixture(scope="module")
def results(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    matrix = brief_matrix(
        tiny_folder,
        methods=["grad_scalar", "attr_patch"],
        controls={"draws": 2, "shuffles": 0},
        prompts={"train": 2, "test": 6, "shifted": 0},
        sites=["z", "mlp_out"],
        circuit={"draws": 30},
    )
    with pytest.MonkeyPatch.context() as patched:  # a random model's two runs may be near
        patched.setattr(circuit, "LEAST_GAP", 0)
        outcome = run_matrix(matrix, tmp_path_factory.mktemp("runs") / "run")
    return load(outcome.store.directory)


def test_the_table_has_what_cells_store_within_its_intervals(results: Results) -> None:
    frame = table(results)
    assert len(frame) == 2 * len({record.method for record in results.records})
    for row in frame.to_dict("records"):
        records = [one.circuit for one in results.records if one.method == row["method"]]
        curves = [one.curve(row["order"]) for one in records if one is not None]
        assert row["n_cells"] == len(curves)
        for name in AREAS:
            assert row[name] == pytest.approx(np.mean([getattr(one, name) for one in curves]))
            slack = 1e-6 * abs(row[name])
            assert row[f"{name}_low"] - slack <= row[name] <= row[f"{name}_high"] + slack


def test_the_prompts_of_the_table_give_its_numbers(results: Results) -> None:
    """The curves of unweighted prompts are the stored ones, so intervals are of the same thing."""
    for one in circuits(results, *results.one(), "absolute"):
        even = np.full((1, one.seen.shape[1]), 1 / one.seen.shape[1])
        for kind in (0, 1):
            found = one.faithfulness(even)[0, kind].mean(axis=0)
            np.testing.assert_allclose(found, one.mean_f(kind), atol=1e-5)


@pytest.mark.parametrize("width", [None, *style.WIDTHS.values()])
def test_the_figure_is_legible_and_has_its_data(results: Results, width: float | None) -> None:
    from reports.figures.circuit import figure

    assert_legible(figure(results, width=width))
    frame = data(results)
    assert set(frame["kind"]) == set(KINDS)
    whole = frame.query("share == 1")
    np.testing.assert_allclose(whole["f"], whole["kind"] == KINDS[0], atol=1e-4)
