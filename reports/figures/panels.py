"""Panels of a figure: side by side, or in several rows where the width does not have the room.

Letters keep their size whatever the width of the figure: what changes is how many panels stand in
a row and how lines of text are broken. Matplotlib's constrained layout does the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from reports import style
from tasks.text import visible

MARGIN = 0.12
TITLE, LINE, FOOT = 0.36, 0.15, 0.08
SPARE = 0.3  # of a figure as wide as it asks for


@dataclass(frozen=True)
class Panel:
    """What a panel asks for, in inches, its labels included.

    Attributes:
        width: as wide as it wants to be.
        least: the narrowest that can be read.
    """

    width: float
    least: float


@dataclass(frozen=True)
class Sheet:
    """A figure with its panels.

    Attributes:
        axes: of every panel, in the order asked for.
        widths: of every panel, in inches.
        leads: whether a panel is the first of its row.
    """

    canvas: Figure
    axes: list[Axes]
    widths: list[float]
    leads: list[bool]

    def legend(self) -> None:
        """Write the legend of the first panel under all of them."""
        legend(self.canvas, self.axes[0])


def sheet(
    title: str,
    lines: Sequence[str],
    panels: Sequence[Panel],
    height: float,
    width: float | None,
    *,
    stacked: float | None = None,
    same_y: bool = False,
) -> Sheet:
    """Return a figure with panels under its title and lines of explanation.

    Args:
        title: one line; cut if need be.
        lines: explanations; broken where they are too long.
        panels: what each asks for.
        height: of all panels side by side, in inches.
        stacked: of a row where they are not, in inches; None: the same.
        width: of the figure, in inches; None: as wide as all panels side by side.
        same_y: panels of a row share their y axis, whose labels only the first shows.
    """
    total = total_of(panels) if width is None else width
    n_rows = len(rows_of(panels, total))
    each = height if n_rows == 1 or stacked is None else stacked
    canvas = canvas_of(total, each * n_rows, title, lines)
    return fill(canvas, canvas, panels, total, same_y=same_y)


def fill(
    canvas: Figure,
    part: Figure | SubFigure,
    panels: Sequence[Panel],
    total: float,
    *,
    same_y: bool = False,
) -> Sheet:
    """Fill a part of a figure, `total` inches wide, with panels; arguments as those of `sheet`."""
    rows = rows_of(panels, total)
    axes: list[Axes] = []
    widths: list[float] = []
    for strip, row in zip(part.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        wanted = [panels[index].width for index in row]
        axes += list(
            strip.subplots(1, len(row), width_ratios=wanted, squeeze=False, sharey=same_y)[0]
        )
        widths += [total * one / sum(wanted) for one in wanted]
    return Sheet(canvas, axes, widths, [index == row[0] for row in rows for index in row])


def legend(canvas: Figure, axes: Axes, **how: Any) -> None:
    """Write the legend of one panel under all of them, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    size = style.letters(canvas.get_figwidth())
    widest = max((style.width_of(label, size) for label in labels), default=0.0)
    columns = max(1, int((canvas.get_figwidth() - MARGIN) / (widest + 0.5)))
    columns = min(columns, len(labels)) or 1
    where: dict[str, Any] = {"loc": "outside lower center", "ncols": columns, "frameon": False}
    canvas.legend(handles, labels, fontsize=size, **where, **how)


def total_of(panels: Sequence[Panel]) -> float:
    """Return the width in inches of a figure with all panels side by side, as they ask for."""
    return sum(panel.width for panel in panels) + SPARE


def rows_of(panels: Sequence[Panel], total: float) -> list[list[int]]:
    """Return which panels stand in a row: as few rows as `total` inches allow, evenly filled."""
    for count in range(1, len(panels) + 1):
        rows = [part.tolist() for part in np.array_split(np.arange(len(panels)), count)]
        if all(len(row) == 1 or sum(panels[i].least for i in row) <= total for row in rows):
            break
    return rows


def canvas_of(width: float, height: float, title: str, lines: Sequence[str]) -> Figure:
    """Return a figure with `height` inches of room under its title and explanations.

    Matplotlib lays out what is drawn there. Call it, and all that draws on it, under
    `style.drawing`.
    """
    inner = 0.96 * width - 2 * MARGIN  # on a screen letters may be wider yet
    broken = [
        style.fit(piece, inner, style.SMALL)
        for line in lines
        for piece in style.wrap(visible(line), inner, style.SMALL)
    ]
    whole = height + TITLE + LINE * len(broken) + FOOT
    canvas = Figure(figsize=(width, whole))
    inside = (MARGIN / 2 / width, 0, 1 - MARGIN / width, height / whole)
    canvas.set_layout_engine("constrained", rect=inside)
    name = style.fit(visible(title), inner, style.LARGE, bold=True)
    how: dict[str, Any] = {"va": "top", "fontsize": style.LARGE, "fontweight": "bold"}
    canvas.text(MARGIN / width, 1 - 0.1 / whole, name, **how)
    for place, line in enumerate(broken):
        y = 1 - (TITLE + LINE * place) / whole
        muted: dict[str, Any] = {"fontsize": style.SMALL, "color": style.MUTED}
        canvas.text(MARGIN / width, y, line, va="top", **muted)
    return canvas


def name_rows(axes: Axes, names: Sequence[str], right: Sequence[str] = ()) -> None:
    """Make each whole number of the y axis a row with a name, the first on top.

    `right` is what else is said of every row, at its other end.
    """
    places = range(len(names))
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if any(right):
        other = axes.secondary_yaxis("right")
        other.set_yticks(places, right, fontsize=style.TINY, color=style.MUTED)
        other.tick_params(length=0)
        other.spines[:].set_visible(False)
