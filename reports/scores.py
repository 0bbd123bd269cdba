"""Scores of methods: as maps, and over the points that they share, as agreement compares them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.agreement.table import Point, compared_points
from bench.store.cells import Cell
from bench.store.records import CellRecord, GridRecord, PromptRecord
from reports.labels import group_cells
from reports.load import Results
from reports.palette import METHODS, base_name
from reports.text import token
from tasks.errors import UserInputError, nearest

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scored:
    """A method's scores over its compared points.

    Attributes:
        label: as in the leaderboard.
        cells: one a seed or draw.
        points: (place, layer, position) of every column.
        values: (cell, point), raw.
    """

    label: str
    cells: tuple[Cell, ...]
    points: tuple[Point, ...]
    values: Values

    @property
    def mean(self) -> Values:
        """(point,), averaged over seeds or draws."""
        return np.asarray(self.values.mean(axis=0))


def scored(results: Results, model: str, task: str, *, controls: bool = False) -> list[Scored]:
    """Return the scores of every method of a model and task that has any."""
    found = []
    for label, group in group_cells(results.of(model, task)).items():
        if group[0].control and not controls:
            continue
        cells = [cell for record in group if (cell := cell_of(results, record)) is not None]
        if not cells:
            continue
        parts = [compared_points(cell) for cell in cells]
        points = parts[0][0]
        alike = [place for place, (own, _) in enumerate(parts) if own == points]
        values = np.stack([parts[place][1] for place in alike])
        found.append(Scored(label, tuple(cells[place] for place in alike), points, values))
    return found


def chosen(found: Iterable[Scored], names: Sequence[str] | None, where: str) -> list[Scored]:
    """Return the methods of these labels; by default all, those the suite knows first.

    Raises UserInputError, naming the nearest, for a label that is not among them.
    """
    place = {name: index for index, name in enumerate(METHODS)}
    ranked = sorted((place.get(base_name(one.label), len(place)), one.label, one) for one in found)
    known = {label: one for _, label, one in ranked}
    for name in names or ():
        if name not in known:
            hint = nearest(name, known)
            raise UserInputError(f"{where} has no method {name!r} with scores.{hint}")
    return [known[name] for name in names or known]


def cell_of(results: Results, record: CellRecord) -> Cell | None:
    """Return a finished cell with its scores (without parameters); None where there are none."""
    if record.status != "done" or record.grid is None:
        return None
    tensors = results.small_tensors(record.id)
    return Cell(record, tensors) if "scores" in tensors else None


def shared(a: Scored, b: Scored) -> tuple[Values, Values, tuple[Point, ...]]:
    """Return both methods' mean scores over the points that they share, and these points."""
    index = {point: column for column, point in enumerate(b.points)}
    columns = [column for column, point in enumerate(a.points) if point in index]
    points = tuple(a.points[column] for column in columns)
    return a.mean[columns], b.mean[[index[point] for point in points]], points


def overlap(a: Values, b: Values, sizes: NDArray[np.int64]) -> Values:
    """Return for every k the share of a's k largest |scores| that are among b's k largest."""
    ranks = [np.argsort(np.argsort(-np.abs(one), None, kind="stable")) for one in (a, b)]
    together = np.sort(np.maximum(*ranks))  # a point is in both tops from k = its worse rank + 1 on
    return np.asarray(np.searchsorted(together, sizes, side="left") / sizes)


def sizes_of(count: int) -> NDArray[np.int64]:
    """Return whole numbers from 1 to `count`, 24 at most, on a logarithmic scale."""
    return np.unique(np.round(np.geomspace(1, count, 24)).astype(np.int64))


def token_names(
    prompt: PromptRecord | None, positions: Sequence[int], label: Callable[[str], str] = token
) -> list[str]:
    """Return the tokens at positions of a prompt, each as `label` writes it; else their numbers."""
    tokens = prompt.tokens if prompt else []
    return [
        label(tokens[position]) if 0 <= position < len(tokens) else str(position)
        for position in positions
    ]


@dataclass(frozen=True)
class ScoreMap:
    """One site's scores, (layer, column); `columns` names tokens or heads."""

    title: str
    values: NDArray[Any]
    columns: list[str]


def score_maps(
    grid: GridRecord, scores: NDArray[Any], token_names: Sequence[str]
) -> list[ScoreMap]:
    """Return a map a site.

    `scores` has shape (place, layer, position) and `token_names` names the grid's positions. A
    head's column holds its score at the one position, or of several the one largest in size.
    """
    places = grid.places
    maps = []
    for site in grid.sites:
        rows = [row for row, place in enumerate(places) if place.site == site]
        if site not in grid.heads:
            maps.append(ScoreMap(site, scores[rows[0]], list(token_names)))
            continue
        by_head = np.moveaxis(scores[rows], 0, 1)  # (layer, head, position)
        if by_head.shape[-1] == 1:
            title = f"{site}, head by head, at {token_names[0]}"
        else:
            title = f"{site}, head by head, largest of {by_head.shape[-1]} positions"
        size = np.where(np.isnan(by_head), -1.0, np.abs(by_head))
        largest = size.argmax(axis=-1)[..., None]
        values = np.take_along_axis(by_head, largest, axis=-1)[..., 0]
        maps.append(ScoreMap(title, values, [str(places[row].head) for row in rows]))
    return maps


def maps_of(
    record: CellRecord, scores: NDArray[Any], label: Callable[[str], str] = token
) -> list[ScoreMap]:
    """Return `score_maps` of scores at a cell's points; `label` writes its first prompt's tokens.

    That is the first train prompt, or where there is none the first of another split.
    """
    assert record.grid is not None
    prompts = [prompt for split in record.prompts.values() for prompt in split]
    first = next(iter(record.prompts.get("train") or prompts), None)
    return score_maps(record.grid, scores, token_names(first, record.grid.positions, label))
