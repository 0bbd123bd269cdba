"""Computes a stored cell again as it was computed then, and compares the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.evaluation.compute import identity
from bench.execution.cell_runner import Watcher
from bench.execution.failure import CellTimeoutError, LoadTimeoutError
from bench.execution.run import executor_of, threads
from bench.matrix.cells import PlannedCell, expand
from bench.matrix.config import load_config, trusted
from bench.matrix.identity import same_content
from bench.matrix.named import model_labels
from bench.matrix.options import RunOptions
from bench.matrix.schema import Matrix
from bench.matrix.yaml_file import parse
from bench.models.load import model_digest
from bench.plugins import install, require_plugins
from bench.store.cells import Cell
from bench.store.layout import RUN_FILE
from bench.store.records import CellRecord
from bench.store.results import RunStore
from bench.store.run_record import content_of
from tasks.errors import UserInputError
from tasks.text import visible

OF_A_MOMENT = (
    *("seconds", "started", "process", "worker", "host", "log"),
    *("peak_memory_bytes", "reused_from", "failed_after_seconds", "passes", "steps"),
    *("cell_timeout", "load_timeout"),
)
"""What provenance says of a moment or of the work, not of where numbers come from."""
TIMEOUTS = {kind.__name__ for kind in (CellTimeoutError, LoadTimeoutError)}


def compute_again(
    store: RunStore,
    record: CellRecord,
    *,
    matrix: str | None = None,
    plugins: Sequence[Path] = (),
    cell_timeout: float | None = None,
) -> Cell:
    """Computes a cell of a run again: with the threads, the kind of device, the precision and the
    rows of a forward that its record says; one that failed, with the time limits that it had. What
    it starts from comes from the run.

    Args:
        store: the run.
        record: the cell.
        matrix: the matrix that the cell belongs to, where it is not the run's own any more.
        plugins: files that add methods, tasks or models; those that the run names have to be
            among them.
        cell_timeout: seconds that it may take, whatever its record says.

    Returns:
        The cell as it is now, failed or not.

    Raises:
        UserInputError: if the cell would not be the same one today: another model, other data,
            another version of the numbers.
    """
    if matrix is None:
        where = store.directory / RUN_FILE
        chosen = parse(store.config, str(where))
        files = trusted(chosen.plugins, plugins, str(where))
        chosen = chosen.model_copy(update={"plugins": files})
    else:
        chosen = load_config(matrix, plugins=plugins)
    install(chosen.plugins)
    require_plugins(record)
    known = record.provenance
    with threads(known.get("threads")):
        cell = planned(chosen, store, record)
        options = RunOptions(
            threads=torch.get_num_threads(),
            cell_timeout=known.get("cell_timeout") if cell_timeout is None else cell_timeout,
            load_timeout=known.get("load_timeout"),
        )
        with TemporaryDirectory() as logs, executor_of(chosen, options, Path(logs)) as executor:
            if known.get("model_content"):
                executor.contents[str(known.get("model_digest"))] = str(known["model_content"])
            cell = replace(cell, rows=known.get("rows_per_forward"))
            scores = _parent_scores(store, cell)
            computed = executor.compute([cell], lambda parent: scores, Watcher())
            ((_, again, tensors),) = computed
    return Cell(again, tensors)


def _parent_scores(store: RunStore, cell: PlannedCell) -> NDArray[Any] | None:
    """The scores that a cell starts from, whatever they are called in the run; None without."""
    if cell.parent is None:
        return None
    for name in sorted(store.stored()):
        if content_of(name) == content_of(cell.parent) and store.has(name):
            return store.read(name).tensors.get("scores")
    return None


def planned(matrix: Matrix, store: RunStore, record: CellRecord) -> PlannedCell:
    """The cell of a matrix that a record belongs to, on the kind of device that it was on.

    Raises:
        UserInputError: if the matrix has it no more; says what is different.
    """
    device = str(record.settings["model"].get("device", "cpu"))
    labelled = zip(model_labels(matrix.models), matrix.models, strict=True)
    models = [choice for label, choice in labelled if label == record.model]
    cells: list[PlannedCell] = []
    if models:
        chosen = matrix.model_copy(update={"models": models})
        found = expand(chosen, model_digest, lambda _: device)
        cells = [replace(cell, model_label=record.model) for cell in found]
    for cell in cells:
        same = same_content(cell.settings, record.settings)
        if same and content_of(cell.id) == content_of(record.id):
            return replace(cell, model=cell.model.model_copy(update={"device": device}))
    called = {key: getattr(record, key) for key in ("model", "task", "method", "draw", "seed")}
    near = [cell for cell in cells if called.items() <= identity(cell).items()]
    if not near or record.id not in (store.planned or [record.id]):
        raise UserInputError(
            f"{record.id} is of an earlier matrix of {store.directory}, and its run.json knows "
            "only the latest one: give the matrix that it belongs to with --matrix FILE."
        )
    ours, theirs = near[0].settings, record.settings
    changed = "; ".join(
        f"{key} was {visible(repr(theirs.get(key)))}, is {visible(repr(ours.get(key)))}"
        for key in sorted({*ours, *theirs})
        if ours.get(key) != theirs.get(key)
    )
    raise UserInputError(f"{record.id} would not be the same cell today: {changed}.")


@dataclass(frozen=True)
class Comparison:
    """Whether all numbers are the same bits, and what there is to say."""

    same: bool
    lines: list[str]


def compare(stored: Cell, again: Cell) -> Comparison:
    """Every tensor and metric of the two, or how they failed, and what was different around them.

    A failed cell has come out the same where it fails in the same way.
    """
    then, now = stored.record, again.record
    if then.error is not None or now.error is not None:
        same = _error(then) == _error(now)
        lines = ["the same failure:" if same else "another outcome:"]
        lines += [f"  then: {_outcome(then)}", f"  now:  {_outcome(now)}"]
        if then.error is not None and now.error is None:
            lines.append("  the next `python -m bench run` of its matrix stores it")
    else:
        lines = [*_tensor_lines(stored.tensors, again.tensors), *_record_lines(then, now)]
        same = not lines
        lines.insert(0, "the same bits: every tensor, metric and strength" if same
                     else "other numbers:")  # fmt: skip
    return Comparison(same, [*lines, *_around(then.provenance, now.provenance)])


def _error(record: CellRecord) -> tuple[str, str] | None:
    """What has to be the same of two failures; how a time limit was met may be said in two ways."""
    if record.error is None:
        return None
    kind = record.error.kind
    return kind, "" if kind in TIMEOUTS else record.error.message


def _outcome(record: CellRecord) -> str:
    if record.error is None:
        return "done"
    return visible(f"failed: {record.error.kind}: {record.error.message}")


def _tensor_lines(stored: dict[str, NDArray[Any]], again: dict[str, NDArray[Any]]) -> list[str]:
    """A line a tensor that is not the same bits."""
    lines = []
    for name in sorted({*stored, *again}):
        one, other = stored.get(name), again.get(name)
        if one is None or other is None or one.shape != other.shape:
            lines.append(f"  {visible(name)}: only in one of the two, or of another shape")
        elif one.tobytes() != other.tobytes():
            with np.errstate(invalid="ignore"):
                gap = np.abs(one.astype(float) - other.astype(float))
            size = float(np.nanmax(np.abs(one.astype(float)), initial=0))
            lines.append(
                f"  {visible(name)}: differs by up to {float(np.nanmax(gap, initial=0)):.3g} "
                f"(largest value {size:.3g})"
            )
    return lines


def _record_lines(then: CellRecord, now: CellRecord) -> list[str]:
    """A line a part of the record that is not the same; what things are called is not compared."""
    ours, theirs = then.model_dump(), now.model_dump()
    called = {"id", "model", "task", "settings", "provenance"}
    return [
        f"  {key}: stored {visible(str(ours[key]))[:200]}, now {visible(str(theirs[key]))[:200]}"
        for key in ours
        if key not in called and repr(ours[key]) != repr(theirs[key])
    ]


def _around(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What was asked for as it was then, and what is different here."""
    kept = ", ".join(
        f"{visible(str(now[key]))} {words}".strip()
        for key, words in (
            ("threads", "threads"), ("device", ""), ("dtype", ""),
            ("rows_per_forward", "rows a forward"),
        )
        if key in now
    )  # fmt: skip
    lines = [f"computed on {kept}"]
    differences = [
        f"  {key} was {visible(str(before.get(key)))}, is {visible(str(now.get(key)))}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and key not in OF_A_MOMENT
    ]
    if not differences:
        return [*lines, "nothing around it is different from then"]
    return [*lines, "different from then:", *differences]
