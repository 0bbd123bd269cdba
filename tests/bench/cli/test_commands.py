"""status, rm and show, as their user has them."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.execution.run import run_matrix
from bench.matrix.config import load_config
from bench.matrix.options import RunOptions
from bench.store.layout import CELL_FILE, only_writer
from bench.store.records import CellRecord
from bench.store.results import RunStore, find_cell
from tasks.errors import UserInputError
from tests.command import output_of
from tests.small import brief_matrix, failing


def records_of(run: Path) -> list[CellRecord]:
    store = RunStore.open(run)
    return [store.record(name) for name in store.stored()]


def methods_in(run: Path) -> list[str]:
    return sorted(record.method for record in records_of(run))


@pytest.fixture
def stale(copied: Path, tiny_folder: Path) -> Path:
    """A run with a cell, activ_scalar's, that its matrix has no use for any more."""
    run_matrix(brief_matrix(tiny_folder, methods=["grad_scalar"]), copied / "run")
    return copied / "run"


def test_failures_are_shown_kept_and_tried_again(copied: Path) -> None:
    other = copied / "other"
    run = ["run", copied / "mine.yaml", "-o", other]
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, RuntimeError("no \x1b[31mgradient\x07 today"))
        assert f"python -m bench status {other}" in output_of(*run, code=1)
    records = {record.method: record for record in records_of(other)}
    kinds = {method: record.error.kind for method, record in records.items() if record.error}
    shuffled = "shuffled[of=grad_scalar]"
    assert kinds == {"grad_scalar": "RuntimeError", shuffled: "ParentFailedError"}
    table = RunStore.open(other).table()
    assert {*table.loc[table["status"] == "failed", "method"]} == kinds.keys()
    shown = output_of("status", other)
    assert "failed  2" in shown
    assert "RuntimeError: no \\x1b[31mgradient\\x07 today" in shown
    shown = output_of("show", find_cell("grad_scalar-0", other)[1], "-r", other)
    assert "Traceback" in shown
    assert "method: grad_scalar" in shown
    assert "2 cells failed" in output_of(*run, "--keep-failed", code=1)
    assert "2 cells are done already" in output_of(*run)
    assert {record.status for record in records_of(other)} == {"done"}


def test_rm_removes_what_it_is_told_and_no_more(stale: Path) -> None:
    assert "1 cell of earlier matrices" in output_of("status", stale)
    output_of("rm", stale, code=2)
    assert "would remove" in output_of("rm", stale, "--stale", "--dry-run")
    assert len(methods_in(stale)) == 4
    output_of("rm", stale, "--stale")
    assert methods_in(stale) == ["grad_scalar", "random", "shuffled[of=grad_scalar]"]
    with only_writer(stale):
        shown = output_of("rm", stale, "--failed", "--set-aside", code=2)
    assert "being written by process" in shown


def test_rm_keeps_what_the_matrix_needs_under_whatever_name(
    copied: Path, tiny_folder: Path
) -> None:
    """The model's folder was moved: the cells bear other names, and are what they were."""
    moved, run = shutil.copytree(tiny_folder, copied / "same-model"), copied / "run"
    methods = ["grad_scalar", "dla"]  # and no activ_scalar
    some = RunOptions(only=("method=random",))
    outcome = run_matrix(brief_matrix(moved, methods=methods), run, options=some)
    assert (len(outcome.reused), len(outcome.computed)) == (1, 0)
    shown = output_of("status", run)
    for words in ("done       1", "missing    4", "taken over 2 by the next run",
                  "2 cells of earlier matrices lie here too"):  # fmt: skip
        assert words in shown  # activ_scalar, and random's old one
    assert "2 removed" in output_of("rm", run, "--stale")
    outcome = run_matrix(brief_matrix(moved, methods=methods), run)
    assert (len(outcome.known), len(outcome.reused), len(outcome.computed)) == (1, 2, 2)
    output_of("rm", run, "--stale")
    assert len(methods_in(run)) == 5


def test_rm_reads_the_run_when_it_is_its_only_writer(
    stale: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends while the lock is waited for has given the directory another matrix."""

    @contextmanager
    def after_another(directory: Path) -> Iterator[None]:
        run_matrix(brief_matrix(tiny_folder), directory)
        with only_writer(directory):
            yield

    monkeypatch.setattr("bench.cli.stored.only_writer", after_another)
    assert "0 removed" in output_of("rm", stale, "--stale")


def test_rm_sets_damage_aside_and_says_so_once(stale: Path) -> None:
    damaged = stale / "cells" / find_cell("random", stale)[1]
    (damaged / CELL_FILE).write_text("{")
    old = find_cell("activ_scalar", stale)[1]
    (stale / "cells" / old / "notes.txt").write_text("mine")  # goes with its cell
    shown = output_of("rm", stale, "--stale", "--dry-run")
    assert f"would set aside or make anew: {damaged / CELL_FILE} (1 bytes)" in shown
    assert damaged.exists()
    shown = output_of("rm", stale, "--stale")
    assert f"It is in {stale / 'set-aside' / damaged.name} now." in shown
    assert "next" not in shown
    assert "notes.txt" not in shown
    assert not damaged.exists()


def test_all_that_is_damaged_or_foreign_is_named(copied: Path) -> None:
    run = copied / "run"
    for name in ("results.csv", "agreement.parquet"):
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[:50] + b"?" + content[51:])
    (run / "notes.txt").write_text("mine")
    (run / "cells" / ".hid").mkdir()
    (run / "cells" / ".DS_Store").write_text("a file manager's")
    for asked in (["status", run], ["plan", copied / "mine.yaml"]):
        shown = output_of(*asked)
        for name in ("results.csv", "agreement.parquet"):
            assert f"damaged: {run / name} was altered" in shown
        for path in (run / "notes.txt", run / "cells" / ".hid"):
            assert f"foreign: {path} is not of the suite; it is left alone" in shown
        assert ".DS_Store" not in shown
    run_matrix(load_config(str(copied / "mine.yaml")))
    assert (run / "notes.txt").read_text() == "mine"
    assert "  damaged:" not in output_of("status", run)


def test_a_cell_is_found_by_directory_or_part_of_its_id(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied / "run"
    name = find_cell("activ_scalar", run)[1]
    for path in (run / "cells" / name, run / "cells" / name / CELL_FILE):
        assert find_cell(str(path))[1] == name
    (run / "results" / "other" / "cells").mkdir(parents=True)
    monkeypatch.chdir(run)
    with pytest.raises(UserInputError, match="no cell"):
        find_cell("activ_scalar")
    with pytest.raises(UserInputError, match="4 cells"):
        find_cell("tiny", run)


def test_show_gives_the_record_as_json_too(whole: Path) -> None:
    record = json.loads(output_of("show", "random", "-r", whole / "run", "--json"))
    assert (record["method"], record["seed"]) == ("random", 0)
    assert len(record["provenance"]["git"]["commit"]) == 40
    asked = "versions device device_name threads dtype seconds peak_memory_bytes started"
    assert set(asked.split()) <= set(record["provenance"])
