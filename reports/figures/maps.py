"""Score maps of every method side by side: layers x tokens of a site, or layers x its heads.

The comparison figure shows the same maps beside sweeps; here they are small, to be looked at
together.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.store.records import GridRecord
from reports import palette, style
from reports.figures.overlap import ordered
from reports.figures.panels import headed
from reports.figures.signed import draw_scores
from reports.load import Results
from reports.maps import ScoreMap, score_maps
from reports.scores import Scored, cell_of, scored
from reports.text import significant, token
from tasks.errors import UserInputError, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

WIDTH, PANEL, HEIGHT = 6.75, 1.9, 1.25
LEFT, RIGHT, GAP, HEAD, TOKENS = 0.42, 0.08, 0.1, 0.36, 0.1


def data(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    methods: Sequence[str] | None = None,
) -> "DataFrame":
    """Return method, map, layer, column (token or head), score and scale, a row a point shown.

    `scale` is the largest |score| of the method's maps, where its colours end.

    `methods` are labels; by default all but the controls. Scores are the method's own, averaged
    over prompts and seeds. Raises UserInputError for unknown methods and where none has scores.
    """
    from pandas import DataFrame

    model, task = results.one(model, task)
    return DataFrame(
        [
            {"method": label, "map": one.title, "layer": layer, "column": one.columns[column]}
            | {"score": score, "scale": _limit(maps)}
            for label, maps in _maps(results, model, task, methods).items()
            for one in maps
            for (layer, column), score in np.ndenumerate(one.values)
        ]
    )


def _maps(
    results: Results, model: str, task: str, methods: Sequence[str] | None
) -> dict[str, list[ScoreMap]]:
    known = {one.label: one for one in ordered(scored(results, model, task, controls=True))}
    if not any(methods is not None or not one.records[0].control for one in known.values()):
        raise UserInputError(f"no method of {model} · {task} has scores to show")
    for name in methods or ():
        if name not in known:
            hint = nearest(name, known)
            raise UserInputError(f"{model} · {task} has no method {name!r} with scores.{hint}")
    chosen = methods or [label for label, one in known.items() if not one.records[0].control]
    return {label: _of(results, known[label]) for label in chosen}


def _limit(maps: Sequence[ScoreMap]) -> float:
    return max(float(np.nanmax(np.abs(one.values), initial=0)) for one in maps) or 1.0


def _of(results: Results, one: Scored) -> list[ScoreMap]:
    record = one.records[0]
    assert record.grid is not None
    cells = [cell for record in one.records if (cell := cell_of(results, record)) is not None]
    mean: NDArray[Any] = np.mean([cell.tensors["scores"] for cell in cells], axis=0)
    prompts = record.prompts.get("train") or [p for split in record.prompts.values() for p in split]
    tokens = prompts[0].tokens if prompts else []
    return score_maps(record.grid, mean, token_names(record.grid, tokens))


def token_names(grid: GridRecord, tokens: Sequence[str]) -> list[str]:
    """Return the tokens at the grid's positions as axis labels, or the positions' numbers."""
    return [
        style.drawable(token(tokens[position])) if 0 <= position < len(tokens) else str(position)
        for position in grid.positions
    ]


def figure(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    methods: Sequence[str] | None = None,
    width: float | None = None,
) -> "Figure":
    """Return small multiples, each method on its own scale, symmetric around zero.

    Tokens are those of the first train prompt. Arguments and errors as `data`.
    """
    model, task = results.one(model, task)
    found = _maps(results, model, task, methods)
    width = width or WIDTH
    n_maps = max(len(maps) for maps in found.values())
    room = max(
        style.width_of(name, 5) for maps in found.values() for m in maps for name in m.columns
    )
    side = max(1, min(len(found), int((width - LEFT) / (PANEL * n_maps * 0.75))))
    rows = int(np.ceil(len(found) / side))
    block = HEAD + HEIGHT + TOKENS + room
    note = f"{palette.current().signs}; hatched: left out; each on its own scale"
    panel = (width - LEFT - RIGHT - (side - 1) * 0.3) / side
    with style.context():
        canvas, head = headed(width, rows * block, f"{model} · {task}", [note])
        height = head + rows * block
        for place, (label, maps) in enumerate(found.items()):
            left = LEFT + (place % side) * (panel + 0.3)
            top = head + (place // side) * block + HEAD
            each = (panel - (len(maps) - 1) * GAP) / len(maps)
            limit = _limit(maps)
            name = style.fit(f"{label}  ±{significant(limit, 2)}", panel, style.SMALL, bold=True)
            x, y = left / width, 1 - (top - HEAD + 0.1) / height
            canvas.text(x, y, name, va="top", fontsize=style.SMALL, fontweight="bold")
            for column, one in enumerate(maps):
                box = (left + column * (each + GAP), height - top - HEIGHT, each, HEIGHT)
                axes = canvas.add_axes(tuple(np.array(box) / ([width, height] * 2)))
                _draw(axes, one, limit, each, first=column == 0 and place % side == 0)
        return style.literal(canvas)


def _draw(axes: "Axes", one: ScoreMap, limit: float, width: float, *, first: bool) -> None:
    draw_scores(axes, one.values, limit)
    n_layers, n_columns = one.values.shape
    axes.set_title(style.fit(one.title, width, style.TINY), loc="left", fontsize=style.TINY, pad=2)
    every = max(1, int(np.ceil(n_columns * 0.085 / width)))
    axes.set_xticks(range(0, n_columns, every), one.columns[::every], rotation=90, fontsize=5)
    layers = range(0, n_layers, 10 if n_layers > 12 else 2)
    axes.set_yticks(layers, [str(layer) for layer in layers] if first else [], fontsize=5)
    axes.tick_params(length=1.5, pad=1.5)
    if first:
        axes.set_ylabel("layer", fontsize=style.TINY, labelpad=1)
