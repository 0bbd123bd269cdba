"""Estimates of time: more for what costs more, and from finished cells where there are any."""

from typing import Any

import pytest

from bench.evaluation.compute import identity
from bench.execution.estimate import estimated_seconds
from bench.execution.work import Counting
from bench.matrix.cells import PlannedCell, expand
from bench.models.embedded import WEIGHTS_DIGEST
from bench.store.records import CellRecord
from bench.text import in_one_process, in_words
from tests.small import small_matrix

DIGESTS = {"smollm2-135m": WEIGHTS_DIGEST, "the-same": WEIGHTS_DIGEST}


def cells(name: str = "smollm2-135m", device: str = "cpu", **changes: Any) -> list[PlannedCell]:
    matrix = small_matrix("x", **{"models": [name], "controls": {"draws": 0}, **changes})
    return expand(matrix, lambda model: DIGESTS.get(model, model), lambda setting: device)


def finished(cell: PlannedCell, seconds: float) -> CellRecord:
    """A cell as it is stored, with as many rows as were counted on."""
    work = Counting()(cell)
    passes = {
        "forward_rows": round(work.forward), "backward_rows": round(work.backward),
        "fit_forward_rows": round(work.patched), "fit_backward_rows": round(work.backward),
    }  # fmt: skip
    provenance = {"seconds": {"fit": seconds, "evaluate": 0.0}, "passes": passes}
    return CellRecord(**identity(cell), status="done", provenance=provenance)


def cost(method: object, **changes: Any) -> float:
    (cell,) = cells(methods=[method], **changes)
    return Counting()(cell).cost


def test_what_costs_more_is_estimated_higher() -> None:
    assert cost("activ_patch") > 2 * cost("dla")
    gaussian = {"name": "activ_patch", "corruption": "gaussian"}
    assert cost(gaussian) > 5 * cost("activ_patch")
    assert cost("activ_patch", sites=["attn_out"]) < cost("activ_patch")
    assert cost("activ_patch", sites=["v"]) < cost("activ_patch", sites=["z"])
    assert cost("activ_patch", positions="last") < cost("activ_patch", positions=[-2, -1])
    assert cost("activ_patch", positions=[-2, -1]) < cost("activ_patch") < cost(gaussian)
    twice = cost({"name": "activ_scalar", "epochs": 50})
    assert 1.5 * cost("activ_scalar") < twice < 2 * cost("activ_scalar")
    assert cost("dla", prompts={"train": 8}) > cost("dla", prompts={"train": 2})
    assert cost("activ_patch", prompts={"train": 8}) > cost("activ_patch", prompts={"train": 2})


def test_the_means_of_one_prompt_are_its_own() -> None:
    """So nothing is patched."""
    (cell,) = cells(methods=[{"name": "activ_patch", "corruption": "mean"}], prompts={"train": 1})
    assert Counting()(cell).patched < 5


def test_finished_cells_of_the_model_replace_what_was_measured_elsewhere() -> None:
    one, other = cells(methods=["dla", "activ_scalar"])
    before = estimated_seconds([one, other])
    assert before is not None
    record = finished(one, 1000.0)
    assert estimated_seconds([one], [record]) == pytest.approx(1000.0)
    expected = 1000 * Counting()(other).cost / Counting()(one).cost
    assert estimated_seconds([other], [record]) == pytest.approx(expected)
    own = finished(other, 5.0)
    assert estimated_seconds([other], [record, own]) == pytest.approx(5.0)
    elsewhere = finished(cells("gpt2", methods=["dla"])[0], 7.0)
    assert estimated_seconds([one, other], [elsewhere]) == before


def test_a_model_is_known_by_what_it_is_and_where_it_runs() -> None:
    (ours,), (named,) = cells(methods=["dla"]), cells("the-same", methods=["dla"])
    (gpu,) = cells(methods=["dla"], device="cuda")
    record = finished(ours, 1000.0)
    assert estimated_seconds([named], [record]) == pytest.approx(1000.0)
    assert estimated_seconds([gpu], [record]) is None
    assert estimated_seconds([gpu], [record, finished(gpu, 3.0)]) == pytest.approx(3.0)


def test_a_stored_cell_that_does_not_say_what_it_counted_says_nothing() -> None:
    (cell,) = cells("gpt2", methods=["dla"])
    record = finished(cell, 10.0)
    for said in ({}, {"passes": {}}, {"passes": [1]}, {"passes": {"forward_rows": "many"}}):
        provenance = {**record.provenance, "passes": None, **said}
        silent = record.model_copy(update={"provenance": provenance})
        assert estimated_seconds([cell], [silent]) is None
    foreign = {**record.settings, "method": {"name": "nobodys"}}
    assert estimated_seconds([cell], [record.model_copy(update={"settings": foreign})]) is None
    assert estimated_seconds([cell], [record]) == pytest.approx(10.0)


def test_nothing_is_said_of_a_model_that_nothing_was_measured_on() -> None:
    assert estimated_seconds(cells("gpt2-xl")) is None
    assert estimated_seconds([]) == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "about 1 s"), (61, "about 61 s"), (600, "about 10 min"), (9000, "about 2.5 h")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
    assert in_one_process(seconds) == f"{words} in one process"


def test_an_unknown_duration_says_why() -> None:
    assert in_words(None) == "an unknown time: nothing has been measured on this model yet"
    assert in_one_process(None) == in_words(None)
