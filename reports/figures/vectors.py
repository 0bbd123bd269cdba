"""Steering vectors over seeds: change of norm, distance from the start, agreement of directions.

After Fig. 4 of 'Activation Scaling for Steering and Interpreting Language Models' (2024), whose
cosine distance is told apart here from whether seeds find the same direction.
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from pandas import DataFrame

from reports import style
from reports.figures.marks import BESIDE, draw_bar, draw_map, limit_of, token_names
from reports.figures.panels import Panel, canvas_of, fill, rows_of, total_of
from reports.load import Results, of_pair
from reports.text import number
from reports.vectors import Seeds, seeds_of

PANELS = [Panel(3.1, 2.2)] * 3
NAME, ROW, STACKED = 0.3, 3.1, 2.4
"""Inches of height: of a setting's name, of its maps side by side, and of each if they are not."""
KEY = (
    "means over seeds; points by layer and token. Under the maps: mean over pairs of seeds, and "
    "smallest to largest. Hatched: excluded, or no path leads to the answer."
)


@of_pair
def maps(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a setting, layer and position: the means over seeds that the maps show."""
    rows = []
    for seeds in seeds_of(results, model, task):
        grid = seeds.records[0].grid
        assert grid is not None
        shown = (
            _mean(seeds, seeds.norm_change),
            _mean(seeds, seeds.distance),
            seeds.cosine.mean(axis=0)[0],
        )
        for layer, column in np.ndindex(shown[0].shape):
            values = (float(one[layer, column]) for one in shown)
            rows.append((seeds.label, layer, grid.positions[column], *values))
    names = ["setting", "layer", "position", "norm_change", "distance", "cosine"]
    return DataFrame(rows, columns=names)


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float | None = None) -> Figure:
    """Return a row of three maps for every setting with several seeds; of several sites the first.

    Raises UserInputError where SteerVec has no two seeds of one setting.
    """
    settings = seeds_of(results, model, task)
    total = total_of(PANELS) if width is None else width
    n_rows = len(rows_of(PANELS, total))
    height = NAME + (ROW if n_rows == 1 else STACKED) * n_rows
    canvas = canvas_of(total, height * len(settings), f"{model} · {task}", [KEY])
    parts = canvas.subfigures(len(settings), 1, squeeze=False)[:, 0]
    for part, seeds in zip(parts, settings, strict=True):
        _draw_setting(canvas, part, seeds, total)
    return canvas


def _draw_setting(canvas: Figure, part: SubFigure, seeds: Seeds, total: float) -> None:
    record = seeds.records[0]
    assert record.grid is not None
    names = token_names(record.prompts["train"][0], record.grid.positions)
    statistics = seeds.statistics()
    site = record.grid.places[0].label
    title = f"{seeds.label} · {site} · {len(seeds.records)} seeds"
    part.suptitle(style.fit(title, total - 0.4, style.NAME), fontsize=style.NAME, x=0.01, ha="left")
    maps = {
        "tau_norm": ("change of norm ‖v‖", _mean(seeds, seeds.norm_change)),
        "tau_distance": ("cosine distance from the start", _mean(seeds, seeds.distance)),
        "cosine": ("cosine between seeds", seeds.cosine.mean(axis=0)[0]),
    }
    page = fill(canvas, part, PANELS, total)
    panels = zip(page.axes, page.widths, maps.items(), strict=True)
    for axes, width, (name, (what, values)) in panels:
        room = width - BESIDE
        limit = 1.0 if name == "cosine" else limit_of(values)
        if name == "tau_distance":  # 1 is no relation to the start: the middle of its scale
            image = draw_map(axes, values, names, 2.0, title=what, low=0.0, room=room)
        else:
            image = draw_map(axes, values, names, limit, title=what, room=room)
        draw_bar(image, axes)
        short = "mean cosine" if name == "cosine" else "τ between seeds"
        found = statistics[name]
        text = f"{short}: {number(float(np.mean(found)), 2)}"
        spread = f"[{number(float(np.min(found)), 2)}, {number(float(np.max(found)), 2)}]"
        axes.set_xlabel(f"{text} {spread}", labelpad=4)


def _mean(seeds: Seeds, values: NDArray[Any]) -> NDArray[Any]:
    """The mean over seeds at the first place, NaN where a point does not count."""
    shown: NDArray[Any] = np.where(seeds.kept, values.mean(axis=0), np.nan)[0]
    return shown
