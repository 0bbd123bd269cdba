"""The scores of two methods against each other, a dot a point of the grid."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from bench.agreement.table import kendall
from reports import style
from reports.figures.overlap import ordered
from reports.figures.panels import canvas_of
from reports.load import Results
from reports.scores import Scored, scored, shared
from reports.text import number, shorten
from tasks.errors import UserInputError, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

WIDTH, TALLEST = 4.6, 2.4


def data(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    methods: Sequence[str] | None = None,
) -> "DataFrame":
    """Return method_a, method_b, place, layer, position, score_a, score_b and tau, a row a point.

    `methods` are two labels; by default the first two in the order of the suite's list. Raises
    UserInputError for unknown ones and where fewer than two methods share points.
    """
    from pandas import DataFrame

    model, task = results.one(model, task)
    one, other = _pair(ordered(scored(results, model, task)), methods, f"{model} · {task}")
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


def _pair(found: list[Scored], methods: Sequence[str] | None, where: str) -> tuple[Scored, Scored]:
    known = {one.label: one for one in found}
    if methods is None:
        methods = list(known)[:2]
    for name in methods:
        if name not in known:
            raise UserInputError(
                f"{where} has no method {name!r} with scores.{nearest(name, known)}"
            )
    if len(methods) != 2:
        raise UserInputError(f"a scatter shows two methods of {where}, not {len(methods)}")
    return known[methods[0]], known[methods[1]]


def figure(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    methods: Sequence[str] | None = None,
    width: float | None = None,
) -> "Figure":
    """Return raw scores of two methods, a dot a point, a panel a site; tau above.

    Every panel has the same axes and, faint, the points of all sites. Arguments and errors as
    `data`.
    """
    model, task = results.one(model, task)
    frame = data(results, model=model, task=task, methods=methods)
    sites = frame["place"].str.partition(".")[0]
    names = list(dict.fromkeys(sites))
    width = width or WIDTH
    size = style.SMALL if width > 3.4 else style.TINY
    side = min(len(names), 2 if width < 5 else 4)
    rows = -(-len(names) // side)
    with style.context():
        tau = number(frame["tau"][0], 2)
        lines = [f"τ-b = {tau}; a dot is a point, a panel a site, faint all sites"]
        height = rows * min(width / side, TALLEST) + 0.2
        canvas = canvas_of(width, height, f"{model} · {task}", lines)
        panels = canvas.subplots(rows, side, sharex=True, sharey=True, squeeze=False)
        for axes, site in zip_longest(panels.flat, names):
            if site is None:
                axes.set_axis_off()
            else:
                _draw(axes, frame, sites == site, style.fit(site, width / side - 0.5, size))
        letters = int(width / (size / 72 * 0.7)) - 6
        canvas.supxlabel(style.drawable(shorten(frame["method_a"][0], letters)), fontsize=size)
        canvas.supylabel(style.drawable(shorten(frame["method_b"][0], letters)), fontsize=size)
        return style.literal(canvas)


def _draw(axes: "Axes", frame: "DataFrame", chosen: Any, title: str) -> None:
    for line in (axes.axhline, axes.axvline):
        line(0, color=style.FAINT, linewidth=0.8, zorder=0)
    dots: dict[str, Any] = {"linestyle": "none", "marker": "o", "markeredgewidth": 0}
    everywhere, here = ((part["score_a"], part["score_b"]) for part in (frame, frame[chosen]))
    # every panel has all dots: as a picture, they do not weigh
    axes.plot(*everywhere, color=style.FAINT, markersize=1.6, rasterized=True, **dots)
    axes.plot(*here, color=style.INK, markersize=2.4, **dots)
    axes.set_title(title, loc="left", fontsize=style.SMALL, pad=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.locator_params(nbins=4)
    axes.tick_params(labelsize=style.TINY)
