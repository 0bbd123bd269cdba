"""Estimates of time: about what cells take, and better where cells of the model are done."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.evaluation.compute import identity
from bench.execution.estimate import (
    ANY_LAYERS,
    LAYERS,
    _layers,
    _pace,
    estimated_rows,
    estimated_seconds,
)
from bench.execution.run import run_matrix
from bench.matrix.cells import PlannedCell, expand
from bench.matrix.config import load_config
from bench.models.embedded import WEIGHTS_DIGEST, embedded_folder
from bench.models.load import model_digest
from bench.store.records import CellRecord
from bench.text import in_one_process, in_words
from tests.small import planned, small_matrix

DIGESTS = {"smollm2-135m": WEIGHTS_DIGEST, "the-same": WEIGHTS_DIGEST}
PATCHED = {"name": "activ_patch", "corruption": ["counterfactual", "gaussian"]}
NO_CONTROLS = {"controls": {"draws": 0}}
TRAINED = {"name": "activ_scalar", "epochs": 3}


def cells(name: str = "smollm2-135m", device: str = "cpu", **changes: Any) -> list[PlannedCell]:
    matrix = small_matrix("x", **{"models": [name], **NO_CONTROLS, **changes})
    return expand(matrix, lambda model: DIGESTS.get(model, model), lambda setting: device)


def finished(cell: PlannedCell, seconds: float) -> CellRecord:
    """A cell as it is stored, with as many rows as were counted on."""
    rows = estimated_rows([cell])[cell.id]
    passes = {"forward_rows": rows, "backward_rows": 0, "fit_forward_rows": 0}
    provenance = {"seconds": {"fit": seconds, "evaluate": 0.0}, "passes": passes}
    return CellRecord(**identity(cell), status="done", provenance=provenance)


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": [PATCHED, "grad_scalar", TRAINED]},
        {"methods": [PATCHED], "sites": ["z"], "positions": "last", **NO_CONTROLS},
        {
            **{"methods": ["dla"], "controls": {"draws": 2}, "sparsity": {"points": 2}},
            **{"prices": {}, "localisation": {}, "retrained": {"k": [2], "draws": 1}},
        },
        {"methods": ["dla"], "circuit": {}},
        {"methods": ["dla"], "one_point": {"prompts": 2}, **NO_CONTROLS},
    ],
)
def test_cells_take_about_as_many_rows_as_they_are_said_to(
    tiny_folder: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    matrix = small_matrix(tiny_folder, **changes)
    store = run_matrix(matrix, tmp_path).store
    said = estimated_rows(expand(matrix, model_digest, lambda device: "cpu"))
    assert set(said) == set(store.ids())
    for cell_id, rows in said.items():
        record = store.record(cell_id)
        (pace,) = _pace([record]).values()
        assert rows / 2 <= record.seconds / pace <= 2 * rows, cell_id


def test_presets_take_the_rows_that_the_docs_say() -> None:
    text = (Path(__file__).parents[3] / "docs/performance.md").read_text("utf-8")
    found = re.findall(r"^\| ([a-z_]+)(, its \w+ draw)? \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    told = {name + draw: [*map(int, rows)] for name, draw, *rows in found}
    (whole,) = re.findall(r"^\| the task \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    draws = {0: ", its first draw", 1: ", its second draw"}
    for column, preset in enumerate(("quick", "standard")):
        every = planned(load_config(preset))
        rows, first, of_tasks = estimated_rows(every), dict[str, int](), Counter[str]()
        for cell in every:
            of_tasks[cell.task.label] += round(rows[cell.id])
            name, draw = cell.method.name, cell.method.method.number_of_draw
            if cell.task.name == "ccc" and (name != "random" or draw in draws):
                key = name + (draws[draw] if name == "random" else "")
                first.setdefault(key, round(rows[cell.id]))
        assert {name: counts[column] for name, counts in told.items()} == first
        task = sum(rows[cell.id] for cell in every if cell.task.name == "ccc")
        assert round(task) == int(whole[column])
        assert max(of_tasks.values()) <= 36_000
        assert preset != "quick" or of_tasks.total() <= 0.4 * 45_600


def test_finished_cells_of_the_model_replace_what_was_measured_elsewhere() -> None:
    one, other = cells(methods=["dla", "activ_scalar"])
    (named,), (gpu,) = cells("the-same", methods=["dla"]), cells(methods=["dla"], device="cuda")
    record, rows = finished(one, 1000.0), estimated_rows([one, other])
    before = estimated_seconds([one, other])
    elsewhere = finished(cells("gpt2", methods=["dla"])[0], 7.0)
    assert before is not None
    assert estimated_seconds([one, other], [elsewhere]) == before
    assert estimated_seconds([gpu], [record]) is None
    assert estimated_seconds(cells("gpt2-xl")) is None
    assert estimated_seconds([]) == 0
    for cell, known, seconds in (
        (one, [record], 1000.0),
        (other, [record], 1000 * rows[other.id] / rows[one.id]),
        # A model is known by what it is and where it runs, not by its name.
        (named, [record], 1000.0),
        (gpu, [record, finished(gpu, 3.0)], 3.0),
    ):
        assert estimated_seconds([cell], known) == pytest.approx(seconds)


def test_layers_are_those_of_a_configuration_or_any(tmp_path: Path, tiny_folder: Path) -> None:
    assert _layers(str(embedded_folder(weights=False))) == LAYERS["smollm2-135m"]
    assert _layers(str(tiny_folder))[0] >= 2
    assert _layers("somebody/model") == ANY_LAYERS
    for text in ("[1]", "{", '{"n_layer": 2}', '{"n_layer": "many", "n_head": 2}'):
        (tmp_path / "config.json").write_text(text)
        assert _layers(str(tmp_path)) == ANY_LAYERS


def test_durations_in_words() -> None:
    for seconds, words in (
        *((0.2, "about 1 s"), (61, "about 61 s"), (600, "about 10 min"), (9000, "about 2.5 h")),
        (None, unknown := "an unknown time: nothing has been measured on this model yet"),
    ):
        assert in_words(seconds) == words
        in_one = words if words == unknown else f"{words} in one process"
        assert in_one_process(seconds) == in_one
