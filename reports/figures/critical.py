"""The critical-difference diagram: mean ranks over models and tasks, bars join what is not apart.

J. Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006), Fig. 1.
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame

from reports import style
from reports.figures.marks import draw_point, look_of
from reports.figures.panels import canvas_of
from reports.load import Results, of_part
from reports.tables.ranks import table
from reports.text import number
from tasks.errors import UserInputError

ROW = 0.2
BAR, NAME = 0.45, 1.0
"""Rows that a bar takes, and a name."""


@of_part
def data(results: Results) -> DataFrame:
    """Return the mean ranks (see `reports.tables.ranks`).

    Raises UserInputError with fewer than two models or tasks, where ranks mean nothing.
    """
    frame = table(results)
    if frame.empty or frame["n_blocks"].iloc[0] < 2 or frame["mean_rank"].notna().sum() < 2:
        raise UserInputError(
            "a critical-difference diagram needs two methods with results on two models or tasks"
        )
    return frame


@of_part
@style.drawing
def figure(results: Results, width: float = style.PAGE) -> Figure:
    """Return mean ranks on an axis, best on the right, with bars over what is not told apart.

    Errors as `data`.
    """
    frame = data(results)
    frame = frame[frame["mean_rank"].notna()]
    names, ranks = frame["method"].tolist(), frame["mean_rank"].to_numpy(dtype=float)
    first = frame.iloc[0]
    difference, p = float(first["critical_difference"]), first["friedman_p"]
    cliques = _cliques(ranks, difference)
    count, half = len(names), (len(names) + 1) // 2
    top = BAR * (len(cliques) + 1)
    test = f"Friedman p = {number(p, 4)}" if p == p else "too few methods for Friedman's test"
    line = f"mean rank of E₀ over {first['n_blocks']} models and tasks; {test}"
    if np.isfinite(difference):
        line += f"; critical difference CD {number(difference, 2)}"
    canvas = canvas_of(width, ROW * (top + NAME * half) + 0.6, "critical difference", [line])
    axes = canvas.add_subplot()
    axes.set(xlim=(count, 1), ylim=(top + NAME * half, -0.3), yticks=[])
    axes.xaxis.tick_top()
    axes.set_xticks(range(1, count + 1, max(1, count // 6)))
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set_visible(True)
    if np.isfinite(difference):
        end = min(1 + difference, count)
        axes.plot([1, end], [-1.6] * 2, **_line(1.2))
    for place, (start, last) in enumerate(cliques):
        axes.plot(ranks[[start, last]], [BAR * (place + 1)] * 2, **_line(2.4))
    size, room = style.letters(width), (0.33 if width > 4 else 0.4) * width
    for place, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        right = place < half
        y = top + NAME * ((place if right else count - 1 - place) + 0.5)
        edge, side = (1 - 0.02 * count, "left") if right else (count * 1.02, "right")
        axes.plot(
            [rank, rank, edge],
            [-0.3, y, y],
            color=style.FAINT,
            linewidth=0.8,
            zorder=0,
            clip_on=False,
        )
        draw_point(axes, rank, -0.3, look_of(results, name))
        axes.text(edge, y, f" {style.fit(name, room, size)} ", ha=side, va="center", fontsize=size)
    for one in axes.lines:
        one.set_clip_on(False)
    return canvas


def _line(wide: float) -> dict[str, Any]:
    return {"color": style.INK, "linewidth": wide, "solid_capstyle": "round", "clip_on": False}


def _cliques(ranks: NDArray[np.float64], difference: float) -> list[tuple[int, int]]:
    """The longest runs (first, last) of ranked methods that are not further apart."""
    found: list[tuple[int, int]] = []
    for start in range(len(ranks)):
        end = int(np.flatnonzero(ranks - ranks[start] < difference)[-1])
        if end > start and not (found and found[-1][1] >= end):
            found.append((start, end))
    return found
