"""The points of a grid that agreement is about. Torch-free.

Left out are excluded points, and the last layer at other positions than the answer position (keys
and values apart): no path leads from there to the answer.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.agreement.kendall import Scores
from bench.store.cells import Cell
from bench.store.records import CellRecord
from tasks.errors import UserInputError

Point = tuple[str, int, int]
FIT_SPLIT = "train"
SHARED = ("k.", "v.")
"""How labels of key and value heads begin: the answer position reads the last layer's elsewhere."""
OF_A_TOKEN = ("q.", *SHARED)
"""How labels of heads begin that see a token alone in the first layer."""


def compared_points(cell: Cell) -> tuple[tuple[Point, ...], Scores]:
    """Return the points of a cell that agreement is about, and its scores there (point,).

    Those that take part and from which a path leads to the answer position.
    """
    points, columns = points_of(cell.record, cell.tensors["scores"])
    return points, at_points(columns, cell.tensors["scores"])


def points_of(
    record: CellRecord, scores: NDArray[Any]
) -> tuple[tuple[Point, ...], NDArray[np.intp]]:
    """Return the points of a cell to compare, and where in the flattened scores they stand."""
    grid = record.grid
    if grid is None:
        raise UserInputError(f"cell {record.id} has scores but no grid")
    prompts = record.prompts.get(FIT_SPLIT, [])
    answer = len(prompts[0].token_ids) - 1 if prompts else max(grid.positions)
    last = grid.n_layers - 1
    excluded = {tuple(point) for point in grid.excluded}
    every = [
        (place.label, layer, position)
        for place in grid.places
        for layer in range(grid.n_layers)
        for position in grid.positions
    ]
    kept = [
        column
        for column, point in enumerate(every)
        if point not in excluded
        and (point[1] < last or point[2] == answer or point[0].startswith(SHARED))
    ]
    if scores.shape != (len(grid.places), grid.n_layers, len(grid.positions)):
        raise UserInputError(
            f"cell {record.id}: scores of shape {scores.shape} do not fit its grid"
        )
    return tuple(every[column] for column in kept), np.asarray(kept, dtype=np.intp)


def at_points(columns: NDArray[np.intp], scores: NDArray[Any]) -> Scores:
    """Return scores (..., place, layer, position) as (..., point), in float64."""
    flat = scores.reshape(*scores.shape[:-3], -1)
    return np.asarray(flat[..., columns], dtype=np.float64)


def differing_points(record: CellRecord, points: Sequence[Point]) -> NDArray[np.bool_]:
    """Return at which points the clean and the corrupted run of some train prompt differ.

    From the first token on that differs; of queries, keys and values in the first layer, which see
    a token alone, only at tokens that differ.
    """
    prompts = record.prompts.get(FIT_SPLIT, [])
    differ = np.any([np.not_equal(p.token_ids, p.corrupted_ids) for p in prompts] or [[]], axis=0)
    first = int(differ.argmax()) if differ.any() else 0
    return np.array(
        [
            bool(differ[position])
            if layer == 0 and place.startswith(OF_A_TOKEN)
            else position >= first
            for place, layer, position in points
        ],
        dtype=bool,
    )
