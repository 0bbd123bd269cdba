"""What effectiveness costs: Pareto fronts over a grid of settings.

After Fig. 2 of 'Activation Scaling for Steering and Interpreting Language Models' (2024).
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from pandas import DataFrame

from reports import style
from reports.figures.marks import looks_of_names
from reports.figures.panels import Panel, sheet
from reports.fronts import PLANES, Plane, blind, front, grid_points, summary
from reports.load import Results, of_pair
from reports.palette import Look
from reports.text import number

PANELS = [Panel(3.0, 2.1)] * len(PLANES)
KEY = "upper right is best; a point is a setting on test, a cross on train; lines: fronts on test"


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a cell and split (see `reports.fronts.points`) with what is on a front.

    `on_front_<plane>` says of test points whether they are on the common front of that plane.
    """
    found = grid_points(results, model, task)
    test = (found["split"] == "test").to_numpy()
    for name, plane in PLANES.items():
        other = plane.maximised(found[plane.column].to_numpy(float))
        on_front = np.zeros(len(found), dtype=bool)
        on_front[test] = front(found["E_0"].to_numpy(float)[test], other[test])
        found[f"on_front_{name}"] = on_front
    return found


@of_pair
def shares(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a plane and method: share of the front and hypervolume, as they are printed."""
    return summary(data(results, model=model, task=task))


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float | None = None) -> Figure:
    """Return E_0 against faithfulness and against both counts of minimality, a panel each.

    Under each panel stand the share of the common front and the dominated hypervolume of each
    method. Raises UserInputError where no method has three settings or more.
    """
    found = data(results, model=model, task=task)
    facts = summary(found)
    first = {row.plane: row for row in facts.itertuples()}
    worst = number(first["faithfulness"].reference_E_0)
    other = number(first["faithfulness"].reference, 0)
    most = number(first["minimality"].reference, 0)
    reference = (
        f"hypervolume: share of the box between the best (0, 0) and E₀ = {worst} (unsteered) with "
        f"F = {other}, or {most} parameters (log scale)"
    )
    lines = [KEY, reference]
    look = looks_of_names(results, found["method"])
    page = sheet(f"{model} · {task}", lines, PANELS, 3.2, width, stacked=2.7, same_y=True)
    for index, (name, plane) in enumerate(PLANES.items()):
        axes = page.axes[index]
        _draw(axes, found, plane, look)
        own = facts[facts["plane"] == name]
        shares = [
            f"{row.method}: {number(100 * row.share, 0)} % of front, "
            f"hypervolume {number(row.hypervolume, 2)}"
            for row in own.itertuples()
        ]
        if name == "minimality":
            missed = blind(found[found["split"] == "test"])
            shares += [f"{method}: {n} steer at count 0" for method, n in missed.items()]
        room = page.widths[index] - 0.5
        below = [line for text in shares for line in style.wrap(text, room, style.SMALL)]
        axes.set_title(plane.label, fontsize=style.FONT_SIZE)
        axes.set_xlabel("\n".join(map(style.drawable, below)), fontsize=style.SMALL)
        if page.leads[index]:
            axes.set_ylabel("effectiveness E₀")
    page.legend()
    return page.canvas


def _draw(axes: Axes, found: DataFrame, plane: Plane, look: dict[str, Look]) -> None:
    test, train = (found[found["split"] == split] for split in ("test", "train"))
    if plane.counts:
        axes.set_xscale("symlog", linthresh=1)
        axes.invert_xaxis()
    else:
        axes.locator_params(axis="x", nbins=3)
    _draw_front(axes, test, plane, style.FAINT, 4.0)
    for method, how in look.items():
        own, seen = (part[part["method"] == method] for part in (test, train))
        axes.plot(
            seen[plane.column], seen["E_0"], "x", color=how.colour, alpha=0.55, markersize=4,
        )  # fmt: skip
        _draw_front(axes, own, plane, how.colour, 1.2)
        axes.plot(
            own[plane.column], own["E_0"], how.marker, color=how.colour, markersize=6,
            markeredgecolor="white", markeredgewidth=0.4, label=style.drawable(method),
        )  # fmt: skip
    unsteered = float(test["E_0_unsteered"].min())
    axes.axhline(unsteered, color=style.MUTED, linewidth=0.8, linestyle=":")
    axes.annotate(
        "unsteered", (1, unsteered), xycoords=("axes fraction", "data"), ha="right", va="bottom",
        fontsize=style.TINY, color=style.MUTED,
    )  # fmt: skip
    if plane.counts:
        largest = np.nanmax(found[plane.column].to_numpy(float), initial=1)
        ticks = [0, *(10**power for power in range(int(np.log10(largest)) + 2))]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="x", labelrotation=45)


def _draw_front(axes: Axes, part: DataFrame, plane: Plane, colour: str, width: float) -> None:
    """The front as a staircase: what every point on it dominates."""
    other = part[plane.column].to_numpy(float)
    e_0 = part["E_0"].to_numpy(float)
    on_front = front(e_0, plane.maximised(other))
    order = np.argsort(-plane.maximised(other[on_front]), kind="stable")
    axes.step(
        other[on_front][order], e_0[on_front][order], where="post", color=colour, linewidth=width,
        zorder=0, solid_capstyle="butt",
    )  # fmt: skip
