"""A cell's scores as those of heads and MLPs, for a score file (`methods.core.score_file`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.store.cells import Cell
from methods.core.points import Place, Site
from methods.core.score_file import node_name
from tasks.errors import UserInputError


class Nodes(NamedTuple):
    """Scores of a cell's heads and MLPs.

    Attributes:
        scores: node -> score.
        left_out: places of the cell that the format has no node for.
    """

    scores: dict[str, float]
    left_out: list[str]


def nodes_of(cell: Cell, *, sizes: bool = False) -> Nodes:
    """Scores of nodes: those of their points, summed over positions.

    Heads come from z or o (from z where a cell has both), MLPs from mlp_out.

    Args:
        cell: a finished cell.
        sizes: sum |score|, so that positions of opposite sign do not cancel.

    Raises:
        UserInputError: for a cell without scores, or without a site that has nodes.
    """
    record = cell.record
    if record.grid is None or "scores" not in cell.tensors:
        raise UserInputError(f"{record.id} failed, so it has no scores.")
    values = np.nan_to_num(cell.tensors["scores"].astype(np.float64), nan=0.0)
    summed = (np.abs(values) if sizes else values).sum(axis=2)
    heads = Site.Z if Site.Z in record.grid.sites else Site.O
    scores: dict[str, float] = {}
    left_out: list[str] = []
    for row, stored in enumerate(record.grid.places):
        place = Place(Site(stored.site), stored.head)
        if place.site in (heads, Site.MLP_OUT):
            of_place = {str(node_name(place, n)): float(v) for n, v in enumerate(summed[row])}
            scores |= of_place
        elif place.site.value not in left_out:
            left_out.append(place.site.value)
    if not scores:
        raise UserInputError(
            f"{record.id} has scores at {', '.join(left_out)}; the format has nodes for heads (z "
            "or o) and mlp_out alone."
        )
    return Nodes(scores, left_out)
