"""The critical-difference diagram: mean ranks over models and tasks, bars join what is not apart.

J. Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006), Fig. 1.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reports import style
from reports.figures.marks import draw_point, look_of
from reports.load import Results
from reports.palette import Look
from reports.tables.ranks import table
from reports.text import number
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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


@dataclass(frozen=True)
class Diagram:
    """What goes where, in inches from the upper left corner. The first rank is the best one."""

    names: list[str]
    ranks: NDArray[np.float64]
    difference: float
    width: float

    @property
    def cliques(self) -> list[tuple[int, int]]:
        """The runs (first, last) of methods that a bar joins."""
        return _cliques(self.ranks, self.difference)

    @property
    def half(self) -> int:
        """How many methods are named on the right."""
        return (len(self.names) + 1) // 2

    @property
    def top(self) -> float:
        """Where the names begin, under the bars."""
        return HEAD + BAR * len(self.cliques) + 0.1

    @property
    def height(self) -> float:
        """Of the figure."""
        return self.top + ROW * self.half + 0.25

    @property
    def room(self) -> float:
        """For names, on each side."""
        return self.width * (0.36 if self.width > 5 else 0.4)

    @property
    def size(self) -> float:
        """Of letters, in points."""
        return style.SMALL if self.width > 5 else style.TINY

    def at(self, rank: float) -> float:
        """Where a rank is on the axis."""
        count = len(self.names)
        return self.room + (self.width - 2 * self.room) * (count - rank) / max(1, count - 1)


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
    blocks, difference, p = (
        ranked[name].iloc[0] for name in ("n_blocks", "critical_difference", "friedman_p")
    )
    ranks = ranked["mean_rank"].to_numpy(dtype=float)
    diagram = Diagram(ranked["method"].tolist(), ranks, float(difference), width or WIDTH)
    test = f"Friedman p = {number(p, 4)}" if p == p else "too few methods for Friedman's test"
    with style.context():
        canvas = Figure(figsize=(diagram.width, diagram.height))
        axes = canvas.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, diagram.width), ylim=(diagram.height, 0))
        axes.axis("off")
        head = f"mean rank of E₀ over {blocks} models and tasks; {test}"
        head = style.fit(head, diagram.width - 0.2, style.TINY)
        axes.text(0.1, 0.14, head, fontsize=style.TINY, color=style.MUTED, va="center")
        _draw_axis(axes, diagram)
        _draw_bars(axes, diagram)
        for place in range(len(diagram.names)):
            _draw_method(axes, diagram, place, look_of(results, diagram.names[place]))
        return style.literal(canvas)


def _draw_axis(axes: "Axes", diagram: Diagram) -> None:
    y, at, count = HEAD - 0.1, diagram.at, len(diagram.names)
    axes.plot([at(count), at(1)], [y, y], color=style.MUTED, linewidth=0.8, zorder=0)
    for rank in range(1, count + 1, max(1, count // 6)):
        axes.plot([at(rank)] * 2, [y - 0.05, y], color=style.MUTED, linewidth=0.8)
        axes.text(at(rank), y - 0.08, str(rank), ha="center", va="bottom", fontsize=diagram.size)
    if np.isfinite(diagram.difference):
        end = min(diagram.difference, count - 1)
        axes.plot([at(1), at(1 + end)], [0.3, 0.3], color=style.INK, linewidth=1.2)
        text = f"CD {number(diagram.difference, 2)}"
        axes.text(at(1) + 0.06, 0.3, text, va="center", fontsize=style.TINY)


def _draw_bars(axes: "Axes", diagram: Diagram) -> None:
    for place, (start, end) in enumerate(diagram.cliques):
        y = HEAD + BAR * (place + 0.5)
        ends = [diagram.at(diagram.ranks[start]) + 0.04, diagram.at(diagram.ranks[end]) - 0.04]
        axes.plot(ends, [y, y], color=style.INK, linewidth=2.4, solid_capstyle="round")


def _draw_method(axes: "Axes", diagram: Diagram, place: int, look: Look) -> None:
    """Draw the point of one method and the line from it to its name."""
    right = place < diagram.half
    row = place if right else len(diagram.names) - 1 - place
    x, y = diagram.at(diagram.ranks[place]), diagram.top + ROW * (row + 0.5)
    edge = diagram.width - diagram.room + 0.1 if right else diagram.room - 0.1
    axes.plot([x, x, edge], [HEAD - 0.1, y, y], color=style.FAINT, linewidth=0.8, zorder=0)
    draw_point(axes, x, HEAD - 0.1, look)
    name = style.fit(diagram.names[place], diagram.room - 0.2, diagram.size)
    where, side = (edge + 0.05, "left") if right else (edge - 0.05, "right")
    axes.text(where, y, name, va="center", ha=side, fontsize=diagram.size)


def _cliques(ranks: Any, difference: float) -> list[tuple[int, int]]:
    """The longest runs (first, last) of ranked methods that are not further apart."""
    found: list[tuple[int, int]] = []
    for start in range(len(ranks)):
        end = int(np.flatnonzero(ranks - ranks[start] < difference)[-1])
        if end > start and not (found and found[-1][1] >= end):
            found.append((start, end))
    return found
