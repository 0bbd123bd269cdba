"""The scores of two methods against each other, a dot a point of the grid."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from bench.agreement.table import kendall
from reports import style
from reports.figures.panels import canvas_of
from reports.load import Results, of_pair
from reports.scores import chosen, scored, shared
from reports.text import number
from tasks.errors import UserInputError

WIDTH, TALLEST = 4.6, 2.4


@of_pair
def data(
    results: Results, model: str, task: str, methods: Sequence[str] | None = None
) -> DataFrame:
    """Return method_a, method_b, place, layer, position, score_a, score_b and tau, a row a point.

    `methods` are two labels; by default the first two in the order of the suite's list. Raises
    UserInputError for unknown ones and where fewer than two methods share points.
    """
    where = f"{model} · {task}"
    found = chosen(scored(results, model, task), methods, where)
    found = found[:2] if methods is None else found
    if len(found) != 2:
        raise UserInputError(f"a scatter shows two methods of {where}, not {len(found)}")
    one, other = found
    a, b, points = shared(one, other)
    if not points:
        raise UserInputError(f"{one.label} and {other.label} scored no point in common")
    places, layers, positions = zip(*points, strict=True)
    return DataFrame(
        {
            **{"method_a": one.label, "method_b": other.label, "place": places},
            **{"layer": layers, "position": positions, "score_a": a, "score_b": b},
            "tau": kendall(a, b),
        }
    )


@of_pair
@style.drawing
def figure(
    results: Results,
    model: str,
    task: str,
    methods: Sequence[str] | None = None,
    width: float = WIDTH,
) -> Figure:
    """Return raw scores of two methods, a dot a point, a panel a site; tau above.

    Every panel has the same axes and, faint, the points of all sites. Arguments and errors as
    `data`.
    """
    frame = data(results, model=model, task=task, methods=methods)
    sites = frame["place"].str.partition(".")[0]
    names = list(dict.fromkeys(sites))
    size = style.letters(width)
    side = min(len(names), 2 if width < 5 else 4)
    rows = -(-len(names) // side)
    lines = [
        f"τ-b = {number(frame['tau'][0], 2)}; a dot is a point, a panel a site, faint all sites"
    ]
    height = rows * min(width / side, TALLEST) + 0.2
    canvas = canvas_of(width, height, f"{model} · {task}", lines)
    panels = canvas.subplots(rows, side, sharex=True, sharey=True, squeeze=False)
    for axes, site in zip_longest(panels.flat, names):
        if site is None:
            axes.set_axis_off()
        else:
            _draw(axes, frame, sites == site, style.fit(site, width / side - 0.5, size))
    canvas.supxlabel(style.fit(frame["method_a"][0], width - 0.4, size), fontsize=size)
    canvas.supylabel(style.fit(frame["method_b"][0], height - 0.4, size), fontsize=size)
    return canvas


def _draw(axes: Axes, frame: DataFrame, of_site: Any, title: str) -> None:
    for line in (axes.axhline, axes.axvline):
        line(0, color=style.FAINT, linewidth=0.8, zorder=0)
    dots: dict[str, Any] = {"linestyle": "none", "marker": "o", "markeredgewidth": 0}
    everywhere, here = ((part["score_a"], part["score_b"]) for part in (frame, frame[of_site]))
    # every panel has all dots: as a picture, they do not weigh
    axes.plot(*everywhere, color=style.FAINT, markersize=1.6, rasterized=True, **dots)
    axes.plot(*here, color=style.INK, markersize=2.4, **dots)
    axes.set_title(title, loc="left", fontsize=style.SMALL, pad=2)
    axes.locator_params(nbins=4)
    axes.tick_params(labelsize=style.TINY)
