"""Patching under every corruption and direction: how well scores steer, and how far they agree."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.store.tidy import variant_labels
from reports import style
from reports.figures.marks import looks_of_names
from reports.figures.panels import Panel, sheet
from reports.figures.parts import draw_bar
from reports.figures.signed import draw_dashes
from reports.load import Results
from reports.palette import Look
from reports.text import number
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame


BARS, DIGITS = 0.9, 0.17
"""Inches: the least room of bars beside their names; what a number needs in a square."""


def data(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return a row a method, corruption and direction: cell, method, label, corruption, direction,
    beta_star, and E_0 and F on test at beta*.

    Raises UserInputError where patching was done under fewer than two of them.
    """
    from pandas import DataFrame

    model, task = results.one(model, task)
    records = [
        record
        for record in results.of(model, task)
        if {"corruption", "direction"} <= record.settings.get("method", {}).keys()
        and record.status == "done"
    ]
    labels = variant_labels(records)
    rows: list[dict[str, Any]] = []
    for record in records:
        settings = record.settings["method"]
        row = next(one for one in record.metrics if (one.split, one.beta_kind) == ("test", "star"))
        rows.append(
            {
                "cell": record.id,
                "method": settings["name"],
                "label": labels[record.id],
                "corruption": settings["corruption"],
                "direction": settings["direction"],
                "beta_star": record.beta.star if record.beta else None,
                "E_0": row.E_0,
                "F": row.F,
                "E_0_unsteered": row.E_0_unsteered,
            }
        )
    found = DataFrame(rows)
    if len(rows) < 2 or found.groupby(["corruption", "direction"]).ngroups < 2:
        raise UserInputError(
            f"{results.store.directory} has patching under one corruption at most on {model} · "
            f"{task}; `corruption: [counterfactual, zero, mean]` of a method makes more."
        )
    return found.sort_values(["method", "corruption", "direction"], kind="stable")


def figure(
    results: Results, *, model: str | None = None, task: str | None = None,
    width: float | None = None,
) -> "Figure":  # fmt: skip
    """Return E_0 and F on test beside Kendall's tau between all of them."""
    model, task = results.one(model, task)
    found = data(results, model=model, task=task)
    names = [f"{row.corruption}, {row.direction}" for row in found.itertuples()]
    lines = ["scores steered at ±β*, on test prompts; dotted: the unsteered model; τ of raw scores"]
    room = max(style.width_of(name, style.SMALL) for name in names)
    square = 0.34 * len(names) + 0.6
    panels = [Panel(room + 1.9, 2.9), Panel(1.9, 1.3), Panel(square, min(square, 2.0))]
    with style.context():
        page = sheet(f"{model} · {task}", lines, panels, max(2.4, 0.26 * len(names)) + 0.6, width)
        bars, faithful, agree = page.axes
        look = looks_of_names(results, dict.fromkeys(found["method"]))
        _draw_bars(bars, found, "E_0", "E₀ on test", look)
        _draw_bars(faithful, found, "F", "F on test (nats)", look)
        bars.axvline(found["E_0_unsteered"].mean(), color=style.MUTED, linestyle=":", linewidth=1)
        taus = _taus(results, list(found["label"]), (model, task))
        square = page.widths[-1] - (room if page.leads[-1] else 0) - 0.6
        _draw_taus(agree, taus, legible=square > DIGITS * len(names))
        for axes, total, leads in zip(page.axes, page.widths, page.leads, strict=True):
            shown = [style.fit(name, total - BARS, style.SMALL) if leads else "" for name in names]
            axes.set_yticks(range(len(names)), shown)
        page.legend()
        return style.literal(page.canvas)


def _draw_bars(
    axes: "Axes", found: "DataFrame", name: str, label: str, look: dict[str, Look]
) -> None:
    named: set[str] = set()
    for place, row in enumerate(found.to_dict("records")):
        method = row["method"]
        text = style.drawable(method) if method not in named else None
        axes.barh(place, row[name], color=look[method].colour, height=0.62, label=text)
        named.add(method)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel(label)


def _taus(results: Results, labels: list[str], pair: tuple[str, str]) -> NDArray[np.float64]:
    """Kendall's tau of every two raw scores, NaN where it is undefined."""
    taus = np.full((len(labels), len(labels)), np.nan)
    np.fill_diagonal(taus, 1.0)
    frame = results.agreement
    for row in frame[(frame["model"] == pair[0]) & (frame["task"] == pair[1])].itertuples():
        if row.method_a in labels and row.method_b in labels:
            a, b = labels.index(row.method_a), labels.index(row.method_b)
            taus[a, b] = taus[b, a] = row.tau
    return taus


def _draw_taus(axes: "Axes", taus: NDArray[np.float64], *, legible: bool) -> None:
    axes.patch.set(facecolor=style.EXCLUDED, hatch="//////", edgecolor=style.MUTED, linewidth=0)
    image = axes.imshow(
        np.ma.masked_invalid(taus), cmap=style.diverging(), vmin=-1, vmax=1, aspect="auto"
    )
    if not legible:
        draw_dashes(axes, taus)
    for a, b in zip(*np.nonzero(np.isfinite(taus)), strict=True) if legible else ():
        ink = "white" if abs(taus[a, b]) > 0.55 else style.INK
        axes.text(
            b, a, number(taus[a, b], 1), ha="center", va="center", color=ink, fontsize=style.TINY
        )
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("τ, in the same order")
    draw_bar(image, axes)
