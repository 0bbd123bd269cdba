"""Sparsity curves: effectiveness against the number of points that are left, a curve a method."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import style
from reports.figures.marks import look_of, marker_of
from reports.figures.panels import canvas_of, legend
from reports.load import Results, of_pair
from reports.palette import base_name
from reports.tables.sparsity import Curve, curves
from reports.tables.tasks import draws_of
from reports.text import number, shorten
from tasks.errors import UserInputError

WIDTH, PLOT = 5.5, 2.5
CLIP = 2.5
"""The axis ends at this many times the unsteered E_0."""


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
    """Return method, control, k, beta, E_0 (95 % over prompts: low, high) and F, a row a k.

    With them stand the area under the curve and E_0 of the unsteered model. Raises UserInputError
    where no cell stores a curve: they are measured on request.
    """
    unsteered = _unsteered(results, model, task)
    return DataFrame(
        [
            {
                **{"method": one.label, "control": one.control, "k": k, "beta": one.beta[place]},
                "E_0": float(one.mean[place]),
                **dict(zip(("low", "high"), one.interval_at(place), strict=True)),
                "F": float((one.weights @ one.f)[place]),
                **{"area": one.area, "E_0_unsteered": unsteered},
            }
            for one in _known(results, model, task)
            for place, k in enumerate(one.k)
        ]
    )


def _known(results: Results, model: str, task: str) -> list[Curve]:
    found = curves(results, model, task)
    if not found:
        raise UserInputError(
            f"{model} · {task} stores no sparsity curve; a matrix with `sparsity: {{points: 8}}` "
            "measures them"
        )
    return sorted(found, key=lambda one: -one.area)


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float | None = None) -> Figure:
    """Return E_0 on test against k (log axis), with 95 % over prompts as a band.

    The legend has the area under each curve, best first; dashed is the unsteered model. Errors as
    `data`.
    """
    known = _known(results, model, task)
    width = width or WIDTH
    lines = ["only the k strongest points are steered; bands: 95 % over prompts"]
    height = PLOT + 0.3 + 0.155 * (len(known) + 1) / (2 if width > 5 else 1)
    canvas = canvas_of(width, height, f"{model} · {task}", lines)
    axes = canvas.add_subplot()
    for one in known:
        name = shorten(one.label, int(9 * width / (2 if width > 5 else 1)))
        _draw(axes, results, one, style.drawable(f"{number(one.area, 2)}  {name}"))
    unsteered = _unsteered(results, model, task)
    if unsteered is not None:
        how: dict[str, Any] = {"color": style.MUTED, "linestyle": "--", "linewidth": 0.9}
        axes.axhline(unsteered, label="unsteered model", **how)
        axes.set_ylim(bottom=max(axes.get_ylim()[0], CLIP * unsteered))
    axes.set(xscale="log", xlabel="k strongest points left", ylabel="E₀ on test")
    style.whole_numbers(axes.xaxis)
    axes.set_ylim(top=0.04 * abs(axes.get_ylim()[0]))
    legend(canvas, axes, title="area (mean E₀ over log k)", title_fontsize=style.letters(width))
    return canvas


def _draw(axes: Axes, results: Results, one: Curve, name: str) -> None:
    look = look_of(results, one.label)
    dashes = {"random": ":", "shuffled": (0, (1, 1))}.get(base_name(one.label), "-")
    marker = marker_of(look, 3.8)
    axes.plot(one.k, one.mean, label=name, linestyle=dashes, linewidth=1.3, **marker)
    low, high = np.transpose([one.interval_at(place) for place in range(len(one.k))])
    if np.isfinite(low).all() and not one.control:
        axes.fill_between(one.k, low, high, color=look.colour, alpha=0.12, linewidth=0)


def _unsteered(results: Results, model: str, task: str) -> float | None:
    """Its E_0, averaged over the draws of prompts."""
    measured = [record for record in results.of(model, task) if record.sparsity]
    split = measured[0].sparsity.split if measured and measured[0].sparsity else ""
    values = [
        next(row.E_0_unsteered for row in record.metrics if row.split == split)
        for record in draws_of(measured, split)
        if any(row.split == split for row in record.metrics)
    ]
    return float(np.mean(values)) if values else None
