"""A stored cell computed again, and every number compared."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bench.bridge import resolve_device
from bench.cells import PlannedCell, content_of, expand
from bench.config import parse
from bench.models import model_digest
from bench.plugins import install
from bench.records import CellRecord
from bench.results import Cell, RunStore
from bench.show import harmless
from bench.workplace import Workplace
from tasks.errors import UserInputError

MAY_DIFFER = ("seconds", "started", "process", "worker", "host", "peak_memory_bytes", "reused_from")
"""What provenance says of a moment, not of where numbers come from."""


@dataclass(frozen=True)
class Comparison:
    """Whether all numbers are the same bits, and what there is to say."""

    same: bool
    lines: list[str]


def compute_again(store: RunStore, cell_id: str) -> Cell:
    """Computes a cell of a run again; what it starts from comes from the run.

    Raises:
        UserInputError: if the cell would not be the same one today (another model, other data,
            another version of the numbers), or fails now.
    """
    record = store.record(cell_id)
    cell, workplace = planned(store, record)
    scores = store.read(cell.parent).tensors["scores"] if cell.parent else None
    rows = record.provenance.get("rows_per_forward")
    again, tensors = workplace.compute(replace(cell, rows=rows), scores)
    workplace.leave()
    if again.error is not None:
        raise UserInputError(f"{cell_id} fails now: {again.error.kind}: {again.error.message}")
    return Cell(again, tensors)


def planned(store: RunStore, record: CellRecord) -> tuple[PlannedCell, Workplace]:
    """The cell of the run's matrix that a record belongs to, and a place to compute it.

    Raises:
        UserInputError: if the matrix has it no more; says what is different.
    """
    matrix = parse(store.config, str(store.directory / "run.json"))
    install(matrix.plugins)
    cells = expand(matrix, model_digest, resolve_device)
    for cell in cells:
        if content_of(cell.id) == content_of(record.id):
            return cell, Workplace(matrix)
    near = [cell for cell in cells if _called(cell) == _called_in(record)]
    changed = "it belongs to an earlier matrix of this directory"
    if near:
        ours, theirs = near[0].settings, record.settings
        changed = "; ".join(
            f"{key} was {harmless(repr(theirs.get(key)))}, is {harmless(repr(ours.get(key)))}"
            for key in sorted({*ours, *theirs})
            if ours.get(key) != theirs.get(key)
        )
    raise UserInputError(f"{record.id} would not be the same cell today: {changed}.")


def _called(cell: PlannedCell) -> tuple[object, ...]:
    draw = cell.method.method.number_of_draw
    return cell.model.name, cell.task.label, cell.method.label, draw, cell.seed


def _called_in(record: CellRecord) -> tuple[object, ...]:
    return record.model, record.task, record.method, record.draw, record.seed


def compare(stored: Cell, again: Cell) -> Comparison:
    """Every tensor and metric of the two, and what was different around them."""
    lines = []
    for name in sorted({*stored.tensors, *again.tensors}):
        one, other = stored.tensors.get(name), again.tensors.get(name)
        if one is None or other is None or one.shape != other.shape:
            lines.append(f"  {name}: only in one of the two, or of another shape")
        elif one.tobytes() != other.tobytes():
            with np.errstate(invalid="ignore"):
                gap = np.abs(one.astype(float) - other.astype(float))
            size = float(np.nanmax(np.abs(one.astype(float)), initial=0))
            lines.append(
                f"  {name}: differs by up to {float(np.nanmax(gap, initial=0)):.3g} "
                f"(largest value {size:.3g})"
            )
    ignored = {"provenance"}
    ours = stored.record.model_dump(exclude=ignored)
    theirs = again.record.model_dump(exclude=ignored)
    lines += [
        f"  {key}: stored {harmless(str(ours[key]))[:200]}, now {harmless(str(theirs[key]))[:200]}"
        for key in ours
        if repr(ours[key]) != repr(theirs[key]) and key not in ("id", "model")
    ]
    same = not lines
    if same:
        lines.append("the same bits: every tensor, metric and strength")
    else:
        lines.insert(0, "other numbers:")
        before, now = stored.record.provenance, again.record.provenance
        lines += [
            f"  around it: {key} was {harmless(str(before.get(key)))}, is "
            f"{harmless(str(now.get(key)))}"
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key) and key not in MAY_DIFFER
        ]
    return Comparison(same, lines)
