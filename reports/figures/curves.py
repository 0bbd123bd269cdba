"""Curves of E_0: over the k strongest points, and over the price paid.

`sparsity`: the k strongest points, each with a strength tuned for Psi. `localisation`: the same at
one price. `price`: all points, E_0 against what was paid on test. Both have controls as a band,
from the worst of their draws to the best.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from pandas import DataFrame, concat

from bench.store.records import MAIN_PRICE
from reports import style
from reports.figures.marks import look_of, marker_of
from reports.figures.panels import canvas_of, legend
from reports.load import Results, of_pair
from reports.outcomes import main_split
from reports.palette import base_name
from reports.tables.circuit import Circuits
from reports.tables.curves import Curve, Kind, control_draws, curves, floor_of
from reports.text import MINUS, number, shorten
from tasks.errors import UserInputError
from tasks.text import counted

WIDTH, PLOT = 5.5, 2.5
CLIP = 2.5
"""The axis ends at this many times the unsteered E_0."""
MOST_BANDS = 8
"""Bands of more lines cover one another; the data beside the figure has the intervals."""
WANTED = {
    "sparsity": "`sparsity: {points: 8}`",
    "localisation": "`localisation: {k: [1, 4, 16, 64]}`",
    "price_curve": "`prices: {curve: true}`",
}


@of_pair
def sparsity_data(results: Results, model: str, task: str) -> DataFrame:
    """Return method, control, k, beta, E_0 (95 % over prompts: low, high) and F, a row a k.

    With them stand the area under the curve, the share of the unsteered E_0 that it makes up for,
    and E_0 of the unsteered model. Raises UserInputError
    where no cell stores a curve: they are measured on request.
    """
    return _data(_known(results, model, task, "sparsity"), "k")


@of_pair
def localisation_data(results: Results, model: str, task: str) -> DataFrame:
    """Return what `sparsity_data` does of the k strongest points at one price on train."""
    known = _known(results, model, task, "localisation")
    return _data(known, "k").assign(price=_price_of(results, model, task))


@of_pair
def price_data(results: Results, model: str, task: str) -> DataFrame:
    """Return what `sparsity_data` does at every price on train; -F is the price paid on test.

    `floor` is the least price at which a prompt of the task can be flipped, a mean over prompts.
    The last rows are single draws of controls at the price at which methods are ranked (`draw`).
    """
    frame = _data(_known(results, model, task, "price_curve"), "price")
    drawn = DataFrame(_draws(results, model, task))
    if len(drawn):
        frame = concat([frame, drawn.assign(price=MAIN_PRICE, control=True)])
    return frame.assign(floor=floor_of(results, model, task))


def _draws(results: Results, model: str, task: str) -> list[dict[str, Any]]:
    """E_0 and F of every draw of every control at the price at which methods are ranked."""
    records = results.of(model, task)
    split = main_split(records)
    return [
        {"method": record.method, "draw": record.draw, "E_0": row.E_0, "F": row.F}
        for record in records
        if record.control
        for row in record.metrics
        if (row.split, row.price) == (split, MAIN_PRICE)
    ]


def _data(known: Sequence[Curve], x: str) -> DataFrame:
    return DataFrame(
        [
            {
                **{"method": one.label, "control": one.control, x: at, "beta": one.beta[place]},
                "E_0": float(one.mean[place]),
                **dict(zip(("low", "high"), one.interval_at(place), strict=True)),
                "F": -float(one.paid[place]),
                **{"area": one.area, "share": one.made_up(one.area)},
                "E_0_unsteered": one.unsteered,
            }
            for one in known
            for place, at in enumerate(one.x)
        ]
    )


def _price_of(results: Results, model: str, task: str) -> float:
    return next(r.localisation.price for r in results.of(model, task) if r.localisation)


def _known(results: Results, model: str, task: str, kind: Kind) -> list[Curve]:
    found = curves(results, model, task, kind)
    if not found:
        raise UserInputError(
            f"{model} · {task} stores no {kind.replace('_', ' ')}; a matrix with {WANTED[kind]} "
            "measures them"
        )
    return sorted(found, key=lambda one: -one.area)


@of_pair
@style.drawing
def sparsity(results: Results, model: str, task: str, width: float = WIDTH) -> Figure:
    """Return E_0 on test against k (log axis), with 95 % over prompts as a band (up to 8 methods).

    The legend has the area under each curve, best first; dashed is the unsteered model. Errors as
    `sparsity_data`.
    """
    known = _known(results, model, task, "sparsity")
    lines = ["only the k strongest points are steered" + say_bands(known)]
    canvas, axes = _axes(known, f"{model} · {task}", lines, width)
    for one in known:
        _draw(axes, results, one, one.x, number(one.area, 2), width, has_bands(known))
    return _finished(canvas, axes, known, "k strongest points left", "area (mean E₀ over log k)")


@of_pair
@style.drawing
def localisation(results: Results, model: str, task: str, width: float = WIDTH) -> Figure:
    """Return E_0 on test against k (log axis), all at one price.

    The grey band has all draws of all controls; where they are at one k alone it is a bar. The
    legend has the share of the unsteered E_0 that is made up for, averaged over log k, best first.
    Errors as `localisation_data`.
    """
    known = _known(results, model, task, "localisation")
    price = _price_of(results, model, task)
    lines = [
        f"does it know where? only the k strongest points are steered, at {price:g} nats on train"
        + say_bands(known, "coloured bands")
    ]
    canvas, axes = _axes(known, f"{model} · {task}", lines, width)
    draws = control_draws(results, model, task, "localisation")
    at = {k: [one.mean[one.x.index(k)] for one in draws if k in one.x] for k in known[0].x}
    _band(axes, {k: values for k, values in at.items() if values})
    for one in _methods(known):
        area = number(one.made_up(one.area), 2)
        _draw(axes, results, one, one.x, area, width, has_bands(known))
    return _finished(canvas, axes, known, "k strongest points left", "area (share made up for)")


@of_pair
@style.drawing
def price(results: Results, model: str, task: str, width: float = WIDTH) -> Figure:
    """Return E_0 on test against the price paid there (log axis), all points acting.

    The grey band has every control's curve, read at its ends beyond what it paid; a dot is one draw
    at the price at which methods are ranked. The dotted vertical line is the floor of the task: the
    least price at which a prompt can be flipped, a mean over prompts. The dashed one is the
    unsteered model, the thin one the price at which methods are ranked. Errors as `price_data`.
    """
    known = _known(results, model, task, "price_curve")
    lines = ["does it steer? all points act; strengths are chosen on train for each price"]
    canvas, axes = _axes(known, f"{model} · {task}", lines, width)
    _draw_controls(axes, results, model, task)
    for one in _methods(known):
        area = number(one.made_up(one.area), 2)
        paid = np.maximum(one.paid, 1e-3)
        _draw(axes, results, one, paid, area, width, has_bands(known))
    floor = floor_of(results, model, task)
    how: dict[str, Any] = {"color": style.MUTED, "linewidth": 0.9}
    axes.axvline(floor, linestyle=":", label=f"floor of the task: {number(floor, 2)} nats", **how)
    axes.axvline(MAIN_PRICE, linestyle="-", **{**how, "linewidth": 0.4})
    label = f"price paid on test, {MINUS}F in nats"
    return _finished(canvas, axes, known, label, "area (share made up for)")


def _methods(known: Sequence[Curve]) -> list[Curve]:
    """The curves that are drawn as lines: all, where there is no method."""
    return [one for one in known if not one.control] or [*known]


def has_bands(known: Sequence[Curve | Circuits]) -> bool:
    """Whether a figure of these methods and controls draws their intervals."""
    return sum(not one.control for one in known) <= MOST_BANDS


def say_bands(known: Sequence[Curve | Circuits], bands: str = "bands") -> str:
    """What the head of such a figure says of them."""
    return f"; {bands}: 95 % over prompts" if has_bands(known) else ""


def _draw_controls(axes: Axes, results: Results, model: str, task: str) -> None:
    """A band from the worst control's price curve to the best, and the draws at the main price."""
    draws = control_draws(results, model, task, "price_curve")
    if draws:
        paid = [np.maximum(np.maximum.accumulate(one.paid), 1e-3) for one in draws]
        prices = np.geomspace(min(map(np.min, paid)), max(map(np.max, paid)), 50)
        read = [
            np.interp(np.log(prices), np.log(x), one.mean)
            for x, one in zip(paid, draws, strict=True)
        ]
        _band(axes, dict(zip(prices.tolist(), np.transpose(read).tolist(), strict=True)))
    dots = _draws(results, model, task)
    how: dict[str, Any] = {"color": style.MUTED, "marker": ".", "markersize": 2.5, "alpha": 0.6}
    label = f"a draw of a control at {MAIN_PRICE:g} nats"
    if dots:
        x, y = zip(*((max(-one["F"], 1e-3), one["E_0"]) for one in dots), strict=True)
        axes.plot(x, y, linestyle="none", label=label, **how)


def _band(axes: Axes, at: Mapping[float, Sequence[float]]) -> None:
    """What controls reach, from the worst of their draws to the best, at every x that has most.

    A bar where that is at one x alone, and a line where there is one draw.
    """
    n_draws = max(map(len, at.values()), default=0)
    x = [one for one, values in at.items() if len(values) == n_draws]
    low, high = ([end(at[one]) for one in x] for end in (min, max))
    how: dict[str, Any] = {"color": style.FAINT, "zorder": 0}
    how["label"] = f"controls, worst to best of {counted(n_draws, 'draw')}"
    if n_draws == 1:
        axes.plot(x, low, **how | {"label": "a draw of a control", "linewidth": 2})
    elif len(x) == 1:
        axes.vlines(x, low, high, linewidth=8, alpha=0.55, **how)
    elif x:
        axes.fill_between(x, low, high, linewidth=0, alpha=0.55, **how)


def _axes(
    known: Sequence[Curve], title: str, lines: Sequence[str], width: float
) -> tuple[Figure, Axes]:
    height = PLOT + 0.3 + 0.155 * (len(known) + 2) / (2 if width > 5 else 1)
    canvas = canvas_of(width, height, title, lines)
    return canvas, canvas.add_subplot()


def _draw(
    axes: Axes,
    results: Results,
    one: Curve,
    x: ArrayLike,
    area: str,
    width: float,
    banded: bool,
) -> None:
    low, high = np.transpose([one.interval_at(place) for place in range(len(one.x))])
    draw_curve(axes, results, one, x, (one.mean, low, high), area, width, banded)


def draw_curve(
    axes: Axes,
    results: Results,
    one: Curve | Circuits,
    x: ArrayLike,
    values: Sequence[NDArray[Any]],
    area: str,
    width: float,
    banded: bool,
) -> None:
    """Draw a method's line in its own look, with a band of its interval unless it is a control.

    Args:
        axes: to draw on.
        results: says the look.
        one: whose line it is.
        x: its places.
        values: at each of them the mean, and the low and high end of its interval.
        area: stands before the label.
        width: of the figure, in inches.
        banded: whether there is a band.
    """
    y, low, high = values
    look = look_of(results, one.label)
    name = shorten(one.label, int(9 * width / (2 if width > 5 else 1)))
    dashes = {"random": ":", "shuffled": (0, (1, 1))}.get(base_name(one.label), "-")
    how = marker_of(look, 3.8)
    axes.plot(x, y, label=style.drawable(f"{area}  {name}"), linestyle=dashes, linewidth=1.3, **how)
    if banded and np.isfinite(low).all() and not one.control:
        axes.fill_between(x, low, high, color=look.colour, alpha=0.12, linewidth=0)


def _finished(
    canvas: Figure, axes: Axes, known: Sequence[Curve], x_label: str, title: str
) -> Figure:
    unsteered = float(np.mean([one.unsteered for one in known]))
    if np.isfinite(unsteered):
        how: dict[str, Any] = {"color": style.MUTED, "linestyle": "--", "linewidth": 0.9}
        axes.axhline(unsteered, label="unsteered model", **how)
        axes.set_ylim(bottom=max(axes.get_ylim()[0], CLIP * unsteered))
    axes.set(xscale="log", xlabel=x_label, ylabel="E₀ on test")
    style.plain_numbers(axes.xaxis)
    axes.set_ylim(top=0.04 * abs(axes.get_ylim()[0]))
    legend(canvas, axes, title=title, title_fontsize=style.letters(canvas.get_figwidth()))
    return canvas
