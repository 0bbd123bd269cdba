"""The store keeps what it is given, whole or not at all, and notices what was changed since."""

import json
import math
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
from bench.store.layout import CELL_FILE, RUN_FILE, NotWritableError, claim
from bench.store.records import CellRecord
from bench.store.results import CorruptRunError, RunStore
from bench.store.schema import plain, strict_json
from bench.store.tidy import COLUMNS, variant_labels
from tasks.errors import UserInputError


def metric_row(split: str, **values: Any) -> dict[str, Any]:
    names = ["E_0", "E_0_unsteered", "E_m", "F", "M_1", "Psi"]
    names += ["flips_plus", "flips_minus", "mass", "mass_unsteered"]
    row = {name: -0.25 * place for place, name in enumerate(names, 1)}
    return {"split": split, "beta_kind": "one", "beta": 1.0, "n_prompts": 4} | row | values


def done(cell_id: str = "a", **values: Any) -> CellRecord:
    fields: dict[str, Any] = {
        "id": cell_id,
        "status": "done",
        "model": "tiny",
        "task": "ccc",
        "method": "activ_patch",
        "trained": False,
        "control": False,
        "seed": 0,
        "settings": {
            "model": {"name": "tiny"},
            "method": {"name": "activ_patch"},
            "sites": ("attn_out",),
            "margin": np.float32(0.5),
            "lambda_f": math.inf,
        },
        "provenance": {
            "seconds": {"fit": 1.5, "tune": 0.25, "evaluate": 2.0},
            "passes": {"forward_rows": 40, "backward_rows": 8},
        },
        "grid": {
            "sites": ["attn_out"],
            "n_layers": 2,
            "positions": [1, 2],
            "excluded": [("attn_out", 1, 2)],
        },
        "prompts": {
            "train": [
                {
                    "clean": "\x1b[31m NaN é",
                    "corrupted": "<script>",
                    "answer": " Paris",
                    "foil": " Rome",
                    "entity": "France",
                    "tokens": ["\x1b", "NaN", "é"],
                    "token_ids": [0, 1, 2],
                    "corrupted_ids": [0, 3, 4],
                    "answer_id": 5,
                    "foil_id": 6,
                }
            ]
        },
        "beta": {"star": -0.5, "grid": [0.0, -0.5], "objective": [-1.0, math.nan]},
        "metrics": [metric_row("train"), metric_row("test", E_0=math.nan)],
        "minimality": {"count": 3, "n_parameters": 4, "meaningful": True, "smallest_k": 2},
        "top_tokens": {"5": " Paris"},
    }
    return CellRecord.model_validate(fields | values)


def failed(cell_id: str = "a") -> CellRecord:
    return CellRecord(
        id=cell_id,
        status="failed",
        error={"kind": "ValueError", "message": "NaN in logits", "log": "…"},
        model="tiny",
        task="ccc",
        method="dla",
        trained=False,
        control=False,
        seed=0,
        settings={},
    )


TENSORS: dict[str, Any] = {
    "scores": np.array([[[1.0, np.nan], [0.5, -2.0]]], dtype=np.float32),
    "sweep.train.prompt": np.array([0], dtype=np.int64),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "scalar": np.float32(3.0),
}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path / "run", {"models": ("tiny",)}, suite_version="0.1.0")


def test_a_cell_comes_back_as_it_was_written(store: RunStore) -> None:
    store.write(done(), TENSORS)
    cell = RunStore.open(store.directory).read("a")
    assert cell.record.model_dump_json() == done().model_dump_json()
    assert cell.record.beta is not None
    assert math.isnan(cell.record.beta.objective[1])
    assert cell.record.settings["sites"] == ["attn_out"]
    assert cell.record.settings["margin"] == 0.5
    assert cell.record.settings["lambda_f"] == math.inf
    assert cell.record.prompts["train"][0].tokens == ["\x1b", "NaN", "é"]
    assert set(cell.tensors) == set(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(cell.tensors[name], array)
        assert cell.tensors[name].dtype == np.asarray(array).dtype


def test_files_are_strict_json_and_nothing_temporary_stays(store: RunStore) -> None:
    store.write(done(), TENSORS)
    store.write_frame("results", store.table())
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


@pytest.mark.parametrize("bad", [np.array([object()]), np.array(["text"])])
def test_a_write_that_fails_leaves_nothing(store: RunStore, bad: Any) -> None:
    with pytest.raises(Exception, match=r".*"):
        store.write(done(), {"scores": bad})
    assert store.ids() == []
    assert [path.name for path in store.directory.glob(".writing*")] == []


def test_a_write_that_is_cut_short_keeps_what_was_there(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(failed(), {})

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("bench.store.files.os.fsync", full_disk)
    with pytest.raises(NotWritableError, match=r"no space.*same command again"):
        store.write(done(), TENSORS)
    with pytest.raises(NotWritableError, match="no space"):
        store.write_frame("results", store.table())
    assert store.record("a").status == "failed"
    assert sorted(path.name for path in store.directory.iterdir()) == ["cells", RUN_FILE]


@pytest.mark.parametrize(
    "cell_id", ["", ".", "..", "../a", "a/b", "a\\b", ".hidden", "a b", "é", "a\n", "x" * 201]
)
def test_ids_never_leave_the_run_directory(store: RunStore, cell_id: str) -> None:
    with pytest.raises(ValueError, match="cannot name a cell"):
        store.cell_directory(cell_id)
    with pytest.raises(ValidationError, match="cannot name a cell"):
        done(cell_id)


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


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


@pytest.mark.parametrize("kind", ["missing", "empty", "file", "no cells", "not json", "newer"])
def test_what_is_not_a_run_is_refused(tmp_path: Path, kind: str) -> None:
    directory = tmp_path / "here"
    if kind == "file":
        directory.write_text("")
    elif kind != "missing":
        directory.mkdir()
    if kind in ("no cells", "not json", "newer"):
        (directory / RUN_FILE).write_text('{"format": 3}' if kind == "newer" else "{")
    if kind in ("not json", "newer"):
        (directory / "cells").mkdir()
    with pytest.raises(UserInputError, match=RUN_FILE if kind == "newer" else "cells/"):
        RunStore.open(directory)


def test_a_damaged_run_file_is_kept_aside_and_written_anew(store: RunStore) -> None:
    store.write(done(), TENSORS)
    rewrite(store.directory / RUN_FILE, "tiny", "tony")
    with pytest.raises(CorruptRunError, match="altered"):
        RunStore.open(store.directory)
    again = RunStore.create(store.directory, {"models": ["tiny"]})
    assert RunStore.open(again.directory).config == {"models": ["tiny"]}
    assert again.ids() == ["a"]
    assert "tony" in (store.directory / "set-aside" / RUN_FILE).read_text()


@pytest.mark.parametrize("kind", ["file", "full", "killed", "lost its run.json", "lost its cells"])
def test_a_run_is_made_over_nothing_but_what_a_killed_one_left(store: RunStore, kind: str) -> None:
    directory = store.directory
    if kind in ("file", "full", "killed"):
        directory = directory / kind
    if kind == "file":
        directory.write_text("mine")
    elif kind in ("full", "killed"):
        (directory / "cells").mkdir(parents=True)
        name = "thesis.tex" if kind == "full" else ".writing-12-run.json"
        (directory / name).write_text("{")
    else:
        store.write_frame("results", store.table())
        (directory / "report").mkdir()
        (directory / RUN_FILE).unlink()
        if kind == "lost its cells":
            (directory / "cells").rmdir()
    if kind in ("killed", "lost its run.json"):
        with claim(directory):
            pass
    else:
        with pytest.raises(UserInputError, match="nothing is written there"), claim(directory):
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


@pytest.mark.parametrize(
    ("model", "shown"),
    [*((text, f"'{text}") for text in ("=A(1)", "+1", "-1", "@A", "\t=1")), ("a\r=1", "a\\r=1")],
)
def test_no_text_is_a_formula_in_a_spreadsheet(store: RunStore, model: str, shown: str) -> None:
    store.write(done("a", model=model), TENSORS)
    store.write_frame("results", store.table())
    table = pd.read_csv(store.directory / "results.csv")
    assert set(table["model"]) == {shown}
    assert table["E_0"][0] == -0.25
    assert set(pd.read_parquet(store.directory / "results.parquet")["model"]) == {model}


def test_what_no_column_can_hold_does_not_cost_the_table(store: RunStore) -> None:
    """Settings of one name but several kinds."""
    for cell, method in (
        ("a", {"epochs": 3, "form": "paper", "of": [1, 2]}),
        ("b", {"epochs": "all", "form": 7, "on": True}),
        ("c", {"epochs": None, "rate": 0.5}),
    ):
        settings = {"method": {"name": "mine", **method}, "model": {"name": "m"}}
        store.write(done(cell, settings=settings), TENSORS)
    store.write_frame("results", store.table())
    table = store.table().groupby("cell").first()
    assert table["method.epochs"].tolist()[:2] == ["3", "all"]
    assert pd.isna(table["method.epochs"].tolist()[2])
    assert table["method.form"].tolist()[:2] == ["paper", "7"]
    assert table["method.of"].tolist()[0] == "[1, 2]"
    assert len(pd.read_parquet(store.directory / "results.parquet")) == 6


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


def test_every_hyperparameter_is_a_column(store: RunStore) -> None:
    settings = {
        "prompts": {"train": 4, "test": 12, "shifted": 12, "seed": 0},
        "objective": {"margin": 1.0, "lambda_f": 10.0, "lambda_m": 0.0},
        "model": {"name": "tiny"},
        "method": {"name": "activ_scalar", "learning_rate": 0.01, "batch_size": None},
        "seed": 0,
    }
    store.write(done("a", settings=settings), {})
    store.write(done("b"), {})
    table = store.table()
    store.write_frame("results", table)
    for frame in (table, pd.read_parquet(store.directory / "results.parquet")):
        first, second = (frame[frame["cell"] == cell].iloc[0] for cell in ("a", "b"))
        assert first["prompts.train"] == 4
        assert first["objective.lambda_f"] == 10.0
        assert first["method.learning_rate"] == 0.01
        assert pd.isna(second["objective.lambda_f"])
        assert pd.isna(second["method.learning_rate"])
    assert "method.name" not in table


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
