"""The store keeps what it is given, whole or not at all, and notices what was changed since."""

import json
import math
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.store.cells import CorruptCellError
from bench.store.files import read_sealed, seal
from bench.store.layout import CELL_FILE, RUN_FILE, claim
from bench.store.records import CellRecord
from bench.store.results import RunStore
from bench.store.schema import plain, strict_json
from bench.store.tidy import COLUMNS, variant_labels
from tasks.errors import UserInputError


def metric_row(split: str, **values: Any) -> dict[str, Any]:
    names = ["E_0", "E_0_unsteered", "E_m", "F", "M_1", "Psi"]
    names += ["flips_plus", "flips_minus", "mass", "mass_unsteered"]
    row = {name: -0.25 * place for place, name in enumerate(names, 1)}
    return {"split": split, "beta_kind": "one", "beta": 1.0, "n_prompts": 4} | row | values


def cell_record(cell_id: str, status: str, method: str, **fields: Any) -> CellRecord:
    of = {"model": "tiny", "task": "ccc", "trained": False, "control": False, "seed": 0}
    asked = {"id": cell_id, "status": status, "method": method, "settings": {}}
    return CellRecord.model_validate(of | asked | fields)


def done(cell_id: str = "a", **values: Any) -> CellRecord:
    settings = {"model": {"name": "tiny"}, "method": {"name": "activ_patch"}}
    settings |= {"sites": ("attn_out",), "margin": np.float32(0.5), "lambda_f": math.inf}
    seconds = {"fit": 1.5, "tune": 0.25, "evaluate": 2.0}
    passes = {"forward_rows": 40, "backward_rows": 8}
    grid = {"sites": ["attn_out"], "n_layers": 2, "positions": [1, 2]}
    prompt = {"clean": "\x1b[31m NaN é", "corrupted": "<script>", "answer": " Paris"}
    prompt |= {"foil": " Rome", "entity": "France", "tokens": ["\x1b", "NaN", "é"]}
    prompt |= {"token_ids": [0, 1, 2], "corrupted_ids": [0, 3, 4], "answer_id": 5, "foil_id": 6}
    fields = {
        "settings": settings,
        "provenance": {"seconds": seconds, "passes": passes},
        "grid": {**grid, "excluded": [("attn_out", 1, 2)]},
        "prompts": {"train": [prompt]},
        "beta": {"star": -0.5, "grid": [0.0, -0.5], "objective": [-1.0, math.nan]},
        "metrics": [metric_row("train"), metric_row("test", E_0=math.nan)],
        "minimality": {"count": 3, "n_parameters": 4, "meaningful": True, "smallest_k": 2},
        "top_tokens": {"5": " Paris"},
    }
    return cell_record(cell_id, **{"status": "done", "method": "activ_patch", **fields, **values})


def failed(cell_id: str = "a") -> CellRecord:
    error = {"kind": "ValueError", "message": "NaN in logits", "log": "…"}
    return cell_record(cell_id, "failed", "dla", error=error)


TENSORS: dict[str, Any] = {
    "scores": np.array([[[1.0, np.nan], [0.5, -2.0]]], dtype=np.float32),
    "sweep.train.prompt": np.array([0], dtype=np.int64),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "scalar": np.float32(3.0),
}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path / "run", {"models": ("tiny",)}, suite_version="0.1.0")


def test_a_cell_comes_back_as_it_was_written_in_strict_json(store: RunStore) -> None:
    store.write(done(), TENSORS)
    store.write_frame("results", store.table())
    cell = RunStore.open(store.directory).read("a")
    assert cell.record.model_dump_json() == done().model_dump_json()
    assert cell.record.beta is not None
    assert math.isnan(cell.record.beta.objective[1])
    settings = {"sites": ["attn_out"], "margin": 0.5, "lambda_f": math.inf}
    assert settings.items() <= cell.record.settings.items()
    assert cell.record.prompts["train"][0].tokens == ["\x1b", "NaN", "é"]
    assert set(cell.tensors) == set(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(cell.tensors[name], array)
        assert cell.tensors[name].dtype == np.asarray(array).dtype
    for file in (store.directory / RUN_FILE, store.cell_directory("a") / CELL_FILE):
        json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(name))
    names = sorted(path.name for path in store.directory.iterdir())
    assert names == ["cells", "results.csv", "results.parquet", RUN_FILE, "tables.json"]


def test_a_failed_cell_is_replaced_and_a_done_one_never_again(store: RunStore) -> None:
    store.write(failed(), {})
    assert not store.has("a")
    assert store.ids() == ["a"]
    store.write(done(), TENSORS)
    assert store.has("a")
    with pytest.raises(FileExistsError, match="finished cell"):
        store.write(done(method="dla"), {})
    assert store.record("a").method == "activ_patch"
    assert RunStore.open(str(store.directory)).config == {"models": ["tiny"]}
    assert RunStore.open(store.directory).run["suite_version"] == "0.1.0"
    again = RunStore.create(store.directory, {"models": ["other"]})
    assert again.ids() == ["a"]
    assert RunStore.open(store.directory).config == {"models": ["other"]}


@pytest.mark.parametrize("bad", [object(), "text"])
def test_a_write_that_fails_leaves_what_was_there(store: RunStore, bad: object) -> None:
    store.write(failed(), {})
    with pytest.raises(Exception, match=r".*"):
        store.write(done(), {"scores": np.array([bad])})
    assert store.record("a").status == "failed"
    assert sorted(path.name for path in store.directory.iterdir()) == ["cells", RUN_FILE]


IDS = ["", ".", "..", "../a", "a/b", "a\\b", ".hidden", "a b", "é", "a\n", "x" * 201, "x" * 200]


@given(st.sampled_from(IDS) | st.text(max_size=30))
def test_ids_never_leave_the_run_directory(name: str) -> None:
    store = RunStore(Path("run"), {})
    if re.fullmatch(r"[A-Za-z0-9_=,-][A-Za-z0-9_=,.-]{0,199}", name):
        assert store.cell_directory(name) == Path("run/cells", name)
        return
    with pytest.raises(ValueError, match="cannot name a cell"):
        store.cell_directory(name)
    with pytest.raises(ValidationError, match="cannot name a cell"):
        done(name)


def test_a_record_of_another_schema_or_place_is_noticed(store: RunStore) -> None:
    store.write(done(), TENSORS)
    moved = store.cell_directory("b")
    store.cell_directory("a").rename(moved)
    with pytest.raises(CorruptCellError, match="says it is the cell 'a'"):
        store.read("b")
    body, tensors = read_sealed(moved / CELL_FILE)
    surprise = json.dumps(json.loads(body) | {"surprise": 1})
    (moved / CELL_FILE).write_bytes(seal(surprise, tensors))
    with pytest.raises(CorruptCellError, match="surprise"):
        store.read("b")


def make(directory: Path, files: dict[str, str]) -> Path:
    """What is called `here` of these files and, by a slash, folders."""
    for name, text in files.items():
        path = directory / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text(text)
    return directory / "here"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "cells/"),
        ({"here/": ""}, "cells/"),
        ({"here": ""}, "cells/"),
        ({"here/run.json": "{"}, "cells/"),
        ({"here/run.json": "{", "here/cells/": ""}, "cells/"),
        ({"here/run.json": '{"format": 3}', "here/cells/": ""}, RUN_FILE),
    ],
)
def test_what_is_not_a_run_is_refused(files: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=words):
        RunStore.open(make(tmp_path, files))


TABLES = {"here/results.csv": "", "here/tables.json": "{}", "here/report/": ""}


@pytest.mark.parametrize(
    ("files", "may"),
    [
        ({"here": "mine"}, False),
        ({"here/cells/": "", "here/thesis.tex": "{"}, False),
        (TABLES, False),  # without cells they may be anybody's
        ({**TABLES, "here/cells/": ""}, True),  # it lost its run.json
        ({"here/cells/": "", "here/.writing-12-run.json": "{"}, True),
    ],
)
def test_a_run_is_made_over_nothing_but_what_a_killed_one_left(
    files: dict[str, str], may: bool, tmp_path: Path
) -> None:
    refused = pytest.raises(UserInputError, match="nothing is written there")
    with nullcontext() if may else refused, claim(make(tmp_path, files)):
        pass


def test_the_table_is_tidy(store: RunStore) -> None:
    store.write(done("a"), TENSORS)
    store.write(failed("b"), {})
    not_meaningful = {"count": 0, "n_parameters": 9, "meaningful": False}
    store.write(done("c", minimality=not_meaningful, beta=None, metrics=[metric_row("test")]), {})
    table = store.table()
    store.write_frame("results", table)
    assert list(table.columns) == list(COLUMNS)
    assert table["cell"].tolist() == ["a", "a", "b", "c"]
    first, second, third, last = (table.iloc[row] for row in range(4))
    assert (first["split"], first["E_0"], first["seconds"]) == ("train", -0.25, 3.75)
    assert (first["seconds_tune"], first["forward_rows"], first["beta_star"]) == (0.25, 40, -0.5)
    assert (first["minimality_count"], first["smallest_k"]) == (3, 2)
    assert math.isnan(second["E_0"])
    assert (third["status"], third["error"]) == ("failed", "NaN in logits")
    assert pd.isna(third["split"])
    assert pd.isna(last["minimality_count"])
    assert last["n_parameters"] == 9
    assert json.loads(first["settings"])["lambda_f"] == "Infinity"
    pd.testing.assert_frame_equal(pd.read_parquet(store.directory / "results.parquet"), table)
    assert len(pd.read_csv(store.directory / "results.csv")) == 4


def test_no_text_is_a_formula_in_a_spreadsheet(store: RunStore) -> None:
    models = ["=A(1)", "+1", "-1", "@A", "\t=1", "a\r=1"]
    for number, model in enumerate(models):
        store.write(done(f"c{number}", model=model, metrics=[metric_row("train")]), TENSORS)
    store.write_frame("results", store.table())
    table = pd.read_csv(store.directory / "results.csv")
    assert table["model"].tolist() == [*(f"'{text}" for text in models[:-1]), "a\\r=1"]
    assert set(table["E_0"]) == {-0.25}
    assert pd.read_parquet(store.directory / "results.parquet")["model"].tolist() == models


def test_every_hyperparameter_is_a_column_though_its_kind_changes(store: RunStore) -> None:
    """What no column can hold does not cost the table."""
    shared = {
        "prompts": {"train": 4, "test": 12, "shifted": 12, "seed": 0},
        "objective": {"margin": 1.0, "lambda_f": 10.0, "lambda_m": 0.0},
    }
    for cell, method, settings in (
        ("a", {"epochs": 3, "form": "paper", "of": [1, 2], "rate": 0.01}, shared),
        ("b", {"epochs": "all", "form": 7, "on": True}, {}),
        ("c", {"epochs": None, "rate": 0.5}, {}),
    ):
        asked = {"method": {"name": "mine", **method}, "model": {"name": "m"}, **settings}
        store.write(done(cell, settings=asked), TENSORS)
    table = store.table()
    store.write_frame("results", table)
    assert "method.name" not in table
    for frame in (table, pd.read_parquet(store.directory / "results.parquet")):
        assert len(frame) == 6
        a, b, c = (frame[frame["cell"] == cell].iloc[0] for cell in "abc")
        assert (a["prompts.train"], a["objective.lambda_f"], a["method.rate"]) == (4, 10.0, 0.01)
        assert pd.isna(b[["objective.lambda_f", "method.rate"]]).all()
        assert (a["method.epochs"], b["method.epochs"]) == ("3", "all")
        assert pd.isna(c["method.epochs"])
        assert (a["method.form"], b["method.form"]) == ("paper", "7")
        assert a["method.of"] == "[1, 2]"


def test_a_failed_cell_says_why() -> None:
    with pytest.raises(ValidationError, match="a failed cell has an error"):
        done(status="failed")
    with pytest.raises(ValidationError, match="surprise"):
        done(surprise=1)
    with pytest.raises(ValidationError, match="cannot be stored as JSON"):
        done(settings={"what": object()})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_plain_data_survives_json(value: Any) -> None:
    text = json.dumps(strict_json(value), allow_nan=False)
    assert repr(plain(json.loads(text))) == repr(plain(value))


def test_labels_say_what_varies() -> None:
    def cell(name: str, seed: int = 0, **settings: object) -> CellRecord:
        return done(name, seed=seed, settings={**settings, "seed": seed})

    grid = [
        cell("a", objective={"lambda_f": 0.0, "seed": 1}, batch={"size": 1}),
        cell("b", objective={"lambda_f": 10.0}, batch={"size": 1}),
        cell("c", seed=1, objective={"lambda_f": 10.0}, batch={"size": 1}),
    ]
    assert variant_labels(grid) == {
        "a": "activ_patch · lambda_f=0",
        "b": "activ_patch · lambda_f=10",
        "c": "activ_patch · lambda_f=10",
    }
    clash = [cell("a", task={"size": 1}, batch={"size": 1}), cell("b", task={"size": 2})]
    assert variant_labels(clash)["a"] == "activ_patch · batch.size=1, task.size=1"
    assert variant_labels(grid[:1]) == {"a": "activ_patch"}
