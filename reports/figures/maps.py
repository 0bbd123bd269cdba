"""Score maps of every method side by side: layers x tokens of a site, or layers x its heads.

The comparison figure shows the same maps beside sweeps; here they are small, to be looked at
together.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import palette, style
from reports.figures.marks import draw_maps, limit_of
from reports.figures.panels import canvas_of
from reports.load import Results, of_pair
from reports.scores import ScoreMap, chosen, maps_of, scored
from reports.text import significant
from tasks.errors import UserInputError

LEAST, HEIGHT = 1.4, 1.9
"""Inches: the least width of a map; the height of a method's maps with their names."""


@of_pair
def data(
    results: Results, model: str, task: str, methods: Sequence[str] | None = None
) -> DataFrame:
    """Return method, map, layer, column (token or head), score and scale, a row a point shown.

    `scale` is the largest |score| of the method's maps, where its colours end.

    `methods` are labels; by default all but the controls. Scores are the method's own, averaged
    over prompts and seeds. Raises UserInputError for unknown methods and where none has scores.
    """
    return DataFrame(
        [
            {"method": label, "map": one.title, "layer": layer, "column": one.columns[column]}
            | {"score": score, "scale": limit_of(*(m.values for m in maps))}
            for label, maps in _maps(results, model, task, methods).items()
            for one in maps
            for (layer, column), score in np.ndenumerate(one.values)
        ]
    )


def _maps(
    results: Results, model: str, task: str, methods: Sequence[str] | None
) -> dict[str, list[ScoreMap]]:
    known = scored(results, model, task, controls=True)
    if methods is None:
        known = [one for one in known if not one.cells[0].record.control]
    if not known:
        raise UserInputError(f"no method of {model} · {task} has scores to show")
    means = {
        one: np.mean([cell.tensors["scores"] for cell in one.cells], axis=0)
        for one in chosen(known, methods, f"{model} · {task}")
    }
    return {
        one.label: maps_of(one.cells[0].record, mean, style.token_label)
        for one, mean in means.items()
    }


@of_pair
@style.drawing
def figure(
    results: Results,
    model: str,
    task: str,
    methods: Sequence[str] | None = None,
    width: float = style.PAGE,
) -> Figure:
    """Return small multiples, each method on its own scale, symmetric around zero.

    Tokens are those of the first train prompt. Arguments and errors as `data`.
    """
    found = _maps(results, model, task, methods)
    n_maps = max(map(len, found.values()))
    side = max(1, min(len(found), int(width / (LEAST * n_maps))))
    n_rows = -(-len(found) // side)
    note = f"{palette.current().signs}; hatched: left out; each on its own scale"
    names = [name for maps in found.values() for one in maps for name in one.columns]
    height = HEIGHT + max(style.width_of(name, style.TINY) for name in names)
    canvas = canvas_of(width, n_rows * height, f"{model} · {task}", [note])
    panels = canvas.subplots(n_rows, side * n_maps, squeeze=False).reshape(-1, n_maps)
    room = width / (side * n_maps) - 0.15
    for place, (own, (label, maps)) in enumerate(zip(panels, found.items(), strict=False)):
        limit = limit_of(*(one.values for one in maps))
        name = f"{label}  ±{significant(limit, 2)}"
        name = style.fit(name, n_maps * room, style.TINY + 1, bold=True)
        how: dict[str, Any] = {"room": room, "size": style.TINY, "first": place % side == 0}
        draw_maps(own[: len(maps)].tolist(), maps, limit, name, **how)
    for axes in canvas.axes:
        axes.set_axis_off() if not axes.images else None
    return canvas
