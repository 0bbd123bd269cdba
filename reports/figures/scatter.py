"""The scores of two methods against each other, a dot a point of the grid."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.agreement import kendall
from reports import style
from reports.figures.overlap import ordered
from reports.load import Results
from reports.palette import COLOURS, MARKERS
from reports.scores import Scored, scored, shared
from reports.text import number, shorten, visible
from tasks.errors import UserInputError, nearest

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

WIDTH = 3.6


def data(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    methods: Sequence[str] | None = None,
) -> "DataFrame":
    """Return method_a, method_b, place, layer, position, score_a and score_b, a row a point.

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
    """Return raw scores of two methods, a dot a point, colour and marker by site; tau above.

    Arguments and errors as `data`.
    """
    from matplotlib.figure import Figure

    model, task = results.one(model, task)
    frame = data(results, model=model, task=task, methods=methods)
    width = width or WIDTH
    size = style.SMALL if width > 3.4 else style.TINY
    sites = frame["place"].str.partition(".")[0]
    with style.context():
        canvas = Figure(figsize=(width, min(width, 4.5) * 0.9 + 0.3), layout="constrained")
        axes = canvas.add_subplot()
        for index, site in enumerate(dict.fromkeys(sites)):
            chosen = frame[sites == site]
            axes.plot(
                *(chosen["score_a"], chosen["score_b"]),
                color=COLOURS[(4, 0, 1, 3, 5, 2, 6)[index % 7]],
                marker=MARKERS[index % len(MARKERS)],
                **{"linestyle": "none", "markersize": 2.6, "alpha": 0.7, "label": site},
                markeredgewidth=0,
            )
        for line in (axes.axhline, axes.axvline):
            line(0, color=style.FAINT, linewidth=0.8, zorder=0)
        tau = kendall(np.array(frame["score_a"]), np.array(frame["score_b"]))
        letters = int(width / (size / 72 * 0.7)) - 6
        axes.set_xlabel(style.drawable(shorten(frame["method_a"][0], letters)), fontsize=size)
        axes.set_ylabel(style.drawable(shorten(frame["method_b"][0], letters)), fontsize=size)
        title = style.fit(visible(f"{model} · {task}"), width - 0.6, size, bold=True)
        axes.set_title(f"{title}\nτ-b = {number(tau, 2)}", loc="left", fontsize=size)
        axes.spines[["top", "right"]].set_visible(False)
        axes.locator_params(nbins=5)
        axes.tick_params(labelsize=style.TINY)
        canvas.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=size)
        return style.literal(canvas)
