"""A cell as it is stored beside the same cell computed again: every number, or how it failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.execution.failure import CellTimeoutError, LoadTimeoutError
from bench.store.cells import Cell
from bench.store.records import CellRecord
from tasks.text import visible

OF_A_MOMENT = (
    *("seconds", "started", "process", "worker", "host", "log"),
    *("peak_memory_bytes", "reused_from", "failed_after_seconds", "passes", "steps"),
    *("cell_timeout", "load_timeout"),
)
"""What provenance says of a moment or of the work, not of where numbers come from."""
TIMEOUTS = {kind.__name__ for kind in (CellTimeoutError, LoadTimeoutError)}


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
