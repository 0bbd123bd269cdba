"""Heads x layers at the last position, one map a method, and how far the methods agree.

After Fig. 7 and 8 of 'Activation Scaling for Steering and Interpreting Language Models' (2024).
"""

from typing import TYPE_CHECKING

import numpy as np

from reports import style
from reports.figures.parts import canvas_of, draw_bar, draw_map, fitted, limit_of, token_names
from reports.heads import TOP, HeadScores, head_scores, name_of, overlap, overlap_by_chance, table
from reports.load import Results
from reports.palette import looks
from reports.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

NAMED = 5


def data(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return the agreement of every two methods (see `reports.heads.table`)."""
    return table(results, model=model, task=task)


def figure(
    results: Results, *, model: str | None = None, task: str | None = None,
    width: float | None = None,
) -> "Figure":  # fmt: skip
    """Return a map of heads x layers for each method, and the overlap of their largest heads.

    Raises UserInputError where no method scored heads at one position.
    """
    model, task = results.one(model, task)
    methods = head_scores(results, model, task)
    record = methods[0].record
    assert record.grid is not None
    prompt = record.prompts["train"][0]
    (at,) = token_names(prompt, record.grid.positions)
    n_prompts = len(record.prompts["train"])
    scored = f"mean scores over {n_prompts} prompts" if n_prompts > 1 else "scores of this prompt"
    lines = [
        f"{methods[0].site}, head by head, at {at} of: {prompt.clean}",
        f"{scored}; blue favours the answer, orange the foil; circles: the {NAMED} "
        "largest |score|, named under the map",
    ]
    natural = 2.7 * len(methods) + (3.0 if len(methods) > 1 else 0.6)
    with style.context():
        canvas = canvas_of(natural, 3.7, f"{model} · {task}", lines)
        ratios = [1.0] * len(methods) + ([1.0] if len(methods) > 1 else [])
        panels = canvas.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
        for axes, one in zip(panels, methods, strict=False):
            _draw_heads(canvas, axes, one)
        if len(methods) > 1:
            _draw_overlap(panels[-1], methods)
        return fitted(canvas, width)


def _draw_heads(canvas: "Figure", axes: "Axes", one: HeadScores) -> None:
    n_heads = one.scores.shape[1]
    names = [str(head) if n_heads <= 16 or head % 4 == 0 else "" for head in range(n_heads)]
    largest = one.top(NAMED)
    image = draw_map(
        axes,
        one.scores,
        names,
        limit_of(one.scores),
        title=style.fit(one.method, 2.2, style.FONT_SIZE),
        x_label="head\n" + ", ".join(name_of(head) for head in largest),
    )
    layers, heads = zip(*largest, strict=True)
    for colour, wide in (("white", 2.2), (style.INK, 0.9)):  # seen on light and on dark
        axes.plot(
            heads, layers, "o", markersize=5, markerfacecolor="none", markeredgecolor=colour,
            markeredgewidth=wide,
        )  # fmt: skip
    draw_bar(canvas, image, axes)


def _draw_overlap(axes: "Axes", methods: list[HeadScores]) -> None:
    """Share of the k largest heads that each other method has in common with the first."""
    first, *others = methods
    n_heads = first.scores.size
    ks = sorted({*np.unique(np.geomspace(1, n_heads, 24).astype(int)), min(TOP, n_heads)})
    look = looks([one.method for one in methods])
    for other in others:
        shares = [overlap(first, other, k) / k for k in ks]
        how = look[other.method]
        axes.plot(ks, shares, color=how.colour, label=style.fit(other.method, 1.3, style.SMALL))
    chance = [overlap_by_chance(k, n_heads) for k in ks]
    axes.plot(ks, [mean / k for (mean, _), k in zip(chance, ks, strict=True)], "--",
              color=style.MUTED, linewidth=1, label="chance")  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xscale("log")
    style.whole_numbers(axes.xaxis)
    axes.set_ylim(-0.03, 1.03)
    axes.set_title(style.fit(f"largest k in common with {first.method}", 2.5, style.FONT_SIZE))
    agreed = table_line(methods)
    axes.set_xlabel(f"k heads of {n_heads}\n{agreed}")
    axes.legend(frameon=False, loc="upper left")


def table_line(methods: list[HeadScores]) -> str:
    """Return tau and the overlap of the first two methods, as they stand in the figure."""
    from bench.agreement import kendall

    one, other = methods[:2]
    k = min(TOP, one.scores.size)
    tau = number(kendall(one.scores, other.scores), 2)
    return f"τ {tau}, {overlap(one, other, k)} of {k} in common"
