"""How long cells will take, before they are computed.

The work of a cell is counted in rows of a forward (`bench.execution.work`). What a row costs comes
from finished cells of the same model on the same kind of device where there are any, and for the
embedded model on two cores else from `SECONDS_A_ROW`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from bench.execution.work import Counting, Stored, work_of_stored
from bench.matrix.cells import PlannedCell
from bench.models.embedded import WEIGHTS_DIGEST

SECONDS_A_ROW: Mapping[tuple[str, str], float] = {(WEIGHTS_DIGEST, "cpu"): 0.018}
"""By the model's digest and the kind of device: one prompt of 24 tokens through the model; measured
on two cores of a server without a GPU."""


class Finished(Stored, Protocol):
    """A stored cell; `bench.store.records.CellRecord` is one."""

    @property
    def status(self) -> str:
        """ "done" or "failed"."""
        ...

    @property
    def seconds(self) -> float:
        """What it took."""
        ...


def estimated_seconds(
    cells: Sequence[PlannedCell], finished: Iterable[Finished] = ()
) -> float | None:
    """About how long `cells` take, in seconds; None where nothing is known of a model.

    Args:
        cells: what is to be computed.
        finished: stored cells, of these models or others.
    """
    rates, count = _rates(finished), Counting()
    total = 0.0
    for cell in cells:
        model, method = cell.settings["model"], cell.settings["method"]["name"]
        known = (rates.get((_content(model), name)) for name in (method, ""))
        rate = next(filter(None, known), None)
        rate = rate or SECONDS_A_ROW.get((model["digest"], model["device"]))
        if rate is None:
            return None
        total += rate * count(cell).cost
    return total


def _rates(finished: Iterable[Finished]) -> dict[tuple[str, str], float]:
    """Seconds a row of (model, method), and of (model, "") over all its methods."""
    spent: dict[tuple[str, str], list[float]] = {}
    for cell in finished:
        if cell.status != "done":
            continue
        try:
            model, method = _content(cell.settings["model"]), cell.settings["method"]["name"]
            seconds, cost = float(cell.seconds), work_of_stored(cell).cost
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue  # a cell that somebody else made says nothing about ours
        if seconds > 0 and cost > 0:
            for name in (method, ""):
                sums = spent.setdefault((model, name), [0.0, 0.0])
                sums[0] += seconds
                sums[1] += cost
    return {key: seconds / cost for key, (seconds, cost) in spent.items()}


def _content(model: Mapping[str, Any]) -> str:
    """What a row's cost depends on: all that decides a model's numbers, not what it is called."""
    return json.dumps({**model, "name": ""}, sort_keys=True)
