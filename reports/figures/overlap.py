"""Which points methods agree are the strongest: overlap of the k largest |scores| with k."""

from typing import TYPE_CHECKING

import numpy as np

from reports import style
from reports.figures.marks import look_of, marker_of
from reports.figures.panels import canvas_of
from reports.load import Results
from reports.palette import METHODS, base_name
from reports.scores import Scored, overlap, scored, shared, sizes_of
from reports.text import distinct
from tasks.errors import UserInputError, nearest

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

WIDTH, PLOT = 5.0, 2.5


def data(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    reference: str | None = None,
) -> "DataFrame":
    """Return reference, method, k, overlap (share of k) and chance (k / points), a row a k.

    `reference` is the method that all others are compared with, by label; by default the first in
    the order of the suite's list. Raises UserInputError for an unknown one and where fewer than
    two methods have scores.
    """
    from pandas import DataFrame

    model, task = results.one(model, task)
    methods = ordered(scored(results, model, task))
    if len(methods) < 2:
        raise UserInputError(f"overlap needs two methods of {model} · {task} with scores")
    known = {one.label: one for one in methods}
    if reference is not None and reference not in known:
        hint = nearest(reference, known)
        raise UserInputError(f"{model} · {task} has no method {reference!r} with scores.{hint}")
    first = known[reference] if reference else methods[0]
    frames = []
    for other in methods:
        if other is first:
            continue
        a, b, points = shared(first, other)
        if not points:
            continue
        sizes = sizes_of(len(points))
        columns = {"k": sizes, "overlap": overlap(a, b, sizes), "chance": sizes / len(points)}
        frames.append(DataFrame({"reference": first.label, "method": other.label, **columns}))
    if not frames:
        raise UserInputError(f"no two methods of {model} · {task} scored the same points")
    from pandas import concat

    return concat(frames, ignore_index=True)


def ordered(methods: list[Scored]) -> list[Scored]:
    """Return methods in the order of the suite's list, those it does not know last."""
    place = {name: index for index, name in enumerate(METHODS)}
    return sorted(methods, key=lambda one: (place.get(base_name(one.label), len(place)), one.label))


def figure(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    reference: str | None = None,
    width: float | None = None,
) -> "Figure":
    """Return a curve a method; dashed is what chance gives. Arguments and errors as `data`."""
    model, task = results.one(model, task)
    frame = data(results, model=model, task=task, reference=reference)
    width = width or WIDTH
    size = style.SMALL if width > 4 else style.TINY
    methods = list(dict.fromkeys(frame["method"]))
    first = frame["reference"].iloc[0]
    letters = int((width / 2 - 0.45) * 72 / (0.6 * size))
    names = [style.drawable(name) for name in distinct(methods, letters)]
    fits = all(style.width_of(name, size) <= width / 2 - 0.45 for name in names)
    columns = 2 if width > 3 and fits else 1
    rows = int(np.ceil((len(methods) + 1) / columns))
    with style.context():
        lines = [f"share of the k largest |scores| that methods have in common with {first}"]
        canvas = canvas_of(width, PLOT + 0.15 * rows, f"{model} · {task}", lines)
        axes = canvas.add_subplot()
        for method, name in zip(methods, names, strict=True):
            curve = frame[frame["method"] == method]
            look = marker_of(look_of(results, method), 3.5)
            axes.plot(curve["k"], curve["overlap"], label=name, linewidth=1.2, **look)
        axes.plot(*(curve["k"], curve["chance"]), color=style.MUTED, linestyle="--", label="chance")
        axes.set(xscale="log", ylim=(-0.03, 1.03))
        style.whole_numbers(axes.xaxis)
        axes.set_xlabel("k largest |scores|", fontsize=size)
        axes.set_ylabel("share in common", fontsize=size)
        axes.spines[["top", "right"]].set_visible(False)
        canvas.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=size)
        return style.literal(canvas)
