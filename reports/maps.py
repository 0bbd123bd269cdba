"""Scores as maps: layers x tokens at a site of width d_model, layers x heads at one with heads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.store.records import CellRecord, GridRecord


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


def tokens_at(record: CellRecord) -> list[str]:
    """Return what the first train prompt of a cell has at each position of its grid."""
    assert record.grid is not None
    tokens = record.prompts["train"][0].tokens
    return [tokens[position] for position in record.grid.positions]
