"""Heads x layers at the last position, one map a method, and how far the methods agree.

After Fig. 7 and 8 of 'Activation Scaling for Steering and Interpreting Language Models' (2024).
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import palette, style
from reports.figures.marks import (
    draw_bar,
    draw_map,
    limit_of,
    look_of,
    marker_of,
    token_names,
)
from reports.figures.panels import Panel, sheet
from reports.heads import (
    TOP,
    HeadScores,
    head_scores,
    largest,
    name_of,
    table,
)
from reports.load import Results, of_pair
from reports.scores import overlap, sizes_of
from reports.text import number

NAMED = 5
PAPERS = {"pythia-1.4b": (16, 8), "gpt2": (11, 8)}
"""The head, as (layer, head), that the paper names in Fig. 7 and 8."""
PANEL = Panel(2.8, 2.1)


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float | None = None) -> Figure:
    """Return a map of heads x layers for each method, and the overlap of their largest heads.

    Raises UserInputError where no method scored heads at one position.
    """
    methods = head_scores(results, model, task)
    lines = _explained(methods, PAPERS.get(model))
    panels = [PANEL] * (len(methods) + (len(methods) > 1))
    page = sheet(f"{model} · {task}", lines, panels, 3.4, width, stacked=3.0)
    for axes, one, room in zip(page.axes, methods, page.widths, strict=False):
        _draw_heads(axes, one, room - 0.6)
        if model in PAPERS:
            y, x = PAPERS[model]
            axes.plot(x, y, "s", markersize=9, markerfacecolor="none", markeredgecolor=style.INK)
    if len(methods) > 1:
        _draw_overlap(page.axes[-1], results, methods, page.widths[-1] - 0.5)
    return page.canvas


def _explained(methods: list[HeadScores], named: tuple[int, int] | None) -> list[str]:
    """What is scored, and what the marks are."""
    record = methods[0].record
    assert record.grid is not None
    prompt = record.prompts["train"][0]
    (at,) = token_names(prompt, record.grid.positions)
    n_prompts, n_draws = len(record.prompts["train"]), len(methods[0].draws)
    scored = f"mean scores over {n_prompts} prompts" if n_prompts > 1 else "scores of this prompt"
    draw = f" (the first of {n_draws} draws)" if n_draws > 1 else ""
    square = f"; square: {name_of(named)}, the paper's" if named else ""
    return [
        f"{methods[0].site}, head by head, at {at} of: {prompt.clean}",
        f"{scored}{draw}; {palette.current().signs}; circles: the {NAMED} largest |score|, named "
        f"under the map{square}",
    ]


def _draw_heads(axes: Axes, one: HeadScores, room: float) -> None:
    n_heads = one.scores.shape[1]
    names = [str(head) if n_heads <= 16 or head % 4 == 0 else "" for head in range(n_heads)]
    strongest = largest(one.scores, NAMED)
    named = ", ".join(name_of(head) for head in strongest)
    image = draw_map(
        axes,
        one.scores,
        names,
        limit_of(one.scores),
        title=style.fit(one.method, room, style.SMALL),
        room=room,
    )
    axes.set_xlabel("\n".join(["head", *style.wrap(named, room, style.FONT_SIZE)]))
    layers, heads = zip(*strongest, strict=True)
    for colour, wide in (("white", 2.2), (style.INK, 0.9)):  # seen on light and on dark
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": colour}
        axes.plot(heads, layers, "o", markersize=5, markeredgewidth=wide, **ring)
    draw_bar(image, axes)


def _draw_overlap(axes: Axes, results: Results, methods: list[HeadScores], room: float) -> None:
    """Share of the k largest heads that each other method has in common with the first."""
    first, *others = methods
    n_heads = first.scores.size
    ks = np.union1d(sizes_of(n_heads), min(TOP, n_heads))
    for other in others:
        shares = overlap(first.scores, other.scores, ks)
        label = style.fit(other.method, room - 0.8, style.SMALL)
        axes.plot(ks, shares, label=label, **marker_of(look_of(results, other.method), 2.5))
    axes.plot(ks, ks / n_heads, "--", color=style.MUTED, linewidth=1, label="chance")
    axes.set(xscale="log", ylim=(-0.03, 1.03))
    style.plain_numbers(axes.xaxis)
    axes.set_title(style.fit(f"largest k in common with {first.method}", room, style.FONT_SIZE))
    pair = table(results, model=first.record.model, task=first.record.task).iloc[0]
    said = f"τ {number(pair['tau'], 2)}, {pair['overlap']} of {pair['k']} in common"
    lines = style.wrap(said, room, style.FONT_SIZE)
    axes.set_xlabel("\n".join([f"k heads of {n_heads}", *lines]))
    axes.legend(frameon=False, loc="upper left")
