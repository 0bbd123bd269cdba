"""Estimates of time: more for what costs more, and from finished cells where there are any."""

from pathlib import Path
from typing import Any

import pytest

from bench.evaluation.compute import identity
from bench.matrix.cells import PlannedCell, expand
from bench.running.estimate import estimated_seconds, forward_rows, in_words
from bench.store.records import CellRecord
from tests.small import small_matrix


def cells(name: str = "smollm2-135m", **changes: Any) -> list[PlannedCell]:
    matrix = small_matrix("x", **{"models": [name], "controls": {"draws": 0}, **changes})
    return expand(matrix, lambda model: "digest", lambda device: "cpu")


def finished(cell: PlannedCell, seconds: float) -> CellRecord:
    provenance = {"seconds": {"fit": seconds, "evaluate": 0.0}}
    return CellRecord(**identity(cell), status="done", provenance=provenance)


def rows(method: object, **changes: Any) -> float:
    (cell,) = cells(methods=[method], **changes)
    return forward_rows(cell.settings)


def test_what_costs_more_is_estimated_higher() -> None:
    assert rows("activ_patch") > 3 * rows("dla")
    gaussian = {"name": "activ_patch", "corruption": "gaussian"}
    assert rows(gaussian) > 5 * rows("activ_patch")
    assert rows("activ_patch", sites=["attn_out"]) < rows("activ_patch")
    twice = rows({"name": "activ_scalar", "epochs": 50})
    assert 1.5 * rows("activ_scalar") < twice < 2 * rows("activ_scalar")
    assert rows("dla", prompts={"train": 8}) > rows("dla", prompts={"train": 2})


def test_finished_cells_of_the_model_replace_what_was_measured_elsewhere() -> None:
    one, other = cells(methods=["dla", "activ_scalar"])
    before = estimated_seconds([one, other])
    assert before is not None
    record = finished(one, 1000.0)
    assert estimated_seconds([one], [record]) == pytest.approx(1000.0)
    expected = 1000 * forward_rows(other.settings) / forward_rows(one.settings)
    assert estimated_seconds([other], [record]) == pytest.approx(expected)
    own = finished(other, 5.0)
    assert estimated_seconds([other], [record, own]) == pytest.approx(5.0)
    elsewhere = finished(cells("gpt2", methods=["dla"])[0], 7.0)
    assert estimated_seconds([one, other], [elsewhere]) == before


def test_nothing_is_said_of_a_model_that_nothing_was_measured_on(tmp_path: Path) -> None:
    assert estimated_seconds(cells("gpt2-xl")) is None
    assert estimated_seconds([]) == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "about 1 s"), (61, "about 61 s"), (600, "about 10 min"), (9000, "about 2.5 h")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_an_unknown_duration_says_why() -> None:
    assert "nothing has been measured" in in_words(None)
