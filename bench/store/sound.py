"""What a stored cell has to hold besides its schema. Torch-free.

A seal says that nothing was altered since, not that the suite made it.
"""

import math
from typing import Any

from bench.store.files import DamagedError
from bench.store.records import CellRecord, GridRecord

SCORES = "scores"
MAX_POINTS = 2**26
"""Of a grid; every head of a model of 70 billion parameters at 1,000 positions has fewer."""


def check_record(record: CellRecord) -> None:
    """Raises DamagedError for a record of the right schema that no cell of the suite has."""
    for name in ("model", "method") if record.status == "done" else ():
        if not isinstance(_name_in(record.settings.get(name)), str):
            raise DamagedError(f"its settings name no {name}")
    seconds = record.provenance.get("seconds")
    if seconds is not None and not (
        isinstance(seconds, dict) and all(map(_is_duration, seconds.values()))
    ):
        raise DamagedError("its provenance.seconds are no numbers of seconds")
    if record.grid is not None:
        _check_size(record.grid)


def check_scores(record: CellRecord, shape: tuple[int, ...]) -> None:
    """Raises DamagedError for scores of a shape that is not the one of the record's grid."""
    if record.grid is None or record.grid.shape != shape:
        grid = "no grid" if record.grid is None else f"a grid of {record.grid.shape} points"
        raise DamagedError(f"holds scores of shape {shape}, but the cell has {grid}")


def _check_size(grid: GridRecord) -> None:
    counts = [*grid.shape, *grid.heads.values()]
    if min(counts) < 0 or max(math.prod(grid.shape), *counts) > MAX_POINTS:
        raise DamagedError(f"its grid of {grid.shape} points is of no possible size")


def _name_in(stated: Any) -> object:
    return stated.get("name") if isinstance(stated, dict) else None


def _is_duration(seconds: object) -> bool:
    return isinstance(seconds, int | float) and math.isfinite(seconds) and seconds >= 0
