"""The critical-difference diagram: mean ranks over models and tasks, bars join what is not apart.

J. Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006), Fig. 1.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from reports import style
from reports.figures.marks import draw_point, look_of
from reports.load import Results
from reports.tables.ranks import table
from reports.text import number
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

WIDTH, ROW, HEAD, BAR = 6.75, 0.2, 0.75, 0.09


def data(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return the mean ranks (see `reports.tables.ranks`).

    Raises UserInputError with fewer than two models or tasks, where ranks mean nothing.
    """
    frame = table(results, model=model, task=task)
    if frame.empty or frame["n_blocks"].iloc[0] < 2 or frame["mean_rank"].notna().sum() < 2:
        raise UserInputError(
            "a critical-difference diagram needs two methods with results on two models or tasks"
        )
    return frame


def figure(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    width: float | None = None,
) -> "Figure":
    """Return mean ranks on an axis, best on the right, with bars over what is not told apart.

    Errors as `data`.
    """
    from matplotlib.figure import Figure

    frame = data(results, model=model, task=task)
    ranked = frame[frame["mean_rank"].notna()]
    names, ranks = ranked["method"].tolist(), ranked["mean_rank"].to_numpy(dtype=float)
    blocks, difference, p = (
        ranked[name].iloc[0] for name in ("n_blocks", "critical_difference", "friedman_p")
    )
    width = width or WIDTH
    cliques = _cliques(ranks, difference)
    top = HEAD + BAR * len(cliques) + 0.1
    half = (len(names) + 1) // 2
    height = top + ROW * half + 0.25
    with style.context():
        canvas = Figure(figsize=(width, height))
        axes = canvas.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))  # inches, from the upper left corner
        axes.axis("off")
        size = style.SMALL if width > 5 else style.TINY
        room = width * (0.36 if width > 5 else 0.4)
        texts = [style.fit(name, room - 0.2, size) for name in names]

        def at(rank: float) -> float:
            return room + (width - 2 * room) * (len(names) - rank) / max(1, len(names) - 1)

        head = f"mean rank of E₀ over {blocks} models and tasks; Friedman p = {number(p, 4)}"
        head = style.fit(head, width - 0.2, style.TINY)
        axes.text(0.1, 0.14, head, fontsize=style.TINY, color=style.MUTED, va="center")
        _axis(axes, at, len(names), difference, size)
        for place, (start, end) in enumerate(cliques):
            y = HEAD + BAR * (place + 0.5)
            ends = [at(ranks[start]) + 0.04, at(ranks[end]) - 0.04]
            axes.plot(ends, [y, y], color=style.INK, linewidth=2.4, solid_capstyle="round")
        for place, (name, rank) in enumerate(zip(names, ranks, strict=True)):
            right = place < half
            row = place if right else len(names) - 1 - place
            y = top + ROW * (row + 0.5)
            edge = width - room + 0.1 if right else room - 0.1
            x = at(rank)
            axes.plot([x, x, edge], [HEAD - 0.1, y, y], color=style.FAINT, linewidth=0.8, zorder=0)
            draw_point(axes, x, HEAD - 0.1, look_of(results, name))
            where, side = (edge + 0.05, "left") if right else (edge - 0.05, "right")
            axes.text(where, y, texts[place], va="center", ha=side, fontsize=size)
        return style.literal(canvas)


def _axis(axes: Any, at: Any, count: int, difference: float, size: float) -> None:
    y = HEAD - 0.1
    axes.plot([at(count), at(1)], [y, y], color=style.MUTED, linewidth=0.8, zorder=0)
    step = max(1, count // 6)
    for rank in range(1, count + 1, step):
        axes.plot([at(rank)] * 2, [y - 0.05, y], color=style.MUTED, linewidth=0.8)
        axes.text(at(rank), y - 0.08, str(rank), ha="center", va="bottom", fontsize=size)
    if np.isfinite(difference):
        end = min(difference, count - 1)
        axes.plot([at(1), at(1 + end)], [0.3, 0.3], color=style.INK, linewidth=1.2)
        text = f"CD {number(difference, 2)}"
        axes.text(at(1) + 0.06, 0.3, text, va="center", fontsize=style.TINY)


def _cliques(ranks: Any, difference: float) -> list[tuple[int, int]]:
    """The longest runs (first, last) of ranked methods that are not further apart."""
    found: list[tuple[int, int]] = []
    for start in range(len(ranks)):
        end = int(np.flatnonzero(ranks - ranks[start] < difference)[-1])
        if end > start and not (found and found[-1][1] >= end):
            found.append((start, end))
    return found
