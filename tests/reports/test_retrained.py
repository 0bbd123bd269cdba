"""Scalars trained anew: the table and the figure say what the cells store."""

import numpy as np
import pytest

from reports.figures.retrained import data
from reports.load import Results
from reports.tables.retrained import table
from reports.tables.verdicts import WORSE

PAIR = {"model": "smollm2-135m", "task": "ccc"}


def test_the_table_has_what_every_support_reaches(results: Results) -> None:
    board = table(results, **PAIR).set_index("method")
    stored = {
        (record.method, row.support): row
        for record in results.of(**PAIR)
        for row in record.retrained
        if not record.control
    }
    random = [one.retrained[0].E_0 for one in results.of(**PAIR) if one.method == "random"]
    for method, row in board.iterrows():
        assert row["E_0"] == pytest.approx(stored[method, "strongest"].E_0)
        assert row["paid"] == pytest.approx(stored[method, "strongest"].paid)
        for support in ("other positions", "other layers"):
            mean = row[f"E_0_{support.replace(' ', '_')}"]
            assert mean == pytest.approx(stored[method, support].E_0)
        assert row["E_0_random"] == pytest.approx(np.mean(random))
    assert (np.diff(board["E_0"].astype(float)) <= 0).all()
    best = board.loc["activ_scalar"]
    assert best["against_random"] == "better than 5 of 5 draws"
    assert not str(best["in_layer"]).startswith(WORSE)


def test_the_figure_has_a_row_a_support_and_draw(results: Results) -> None:
    rows = data(results, **PAIR)
    board = table(results, **PAIR)
    assert (rows["support"] == "random").sum() == 5
    for support in ("strongest", "other positions", "other layers"):
        of_support = rows[rows["support"] == support].set_index("method")["E_0"]
        name = "E_0" if support == "strongest" else f"E_0_{support.replace(' ', '_')}"
        expected = board.set_index("method")[name].astype(float)
        np.testing.assert_allclose(of_support.sort_index(), expected.sort_index())
