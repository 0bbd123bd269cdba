"""What each method says and whether it steers: score maps beside beta sweeps, one row a method.

After Fig. 9 of 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr, Du,
Snæbjarnarson, West, Cotterell, Schein; Findings of EMNLP 2024).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bench.store.records import CellRecord
from reports import style
from reports.figures.comparison_rows import Row, collect, lines_of, on_test, tick_names
from reports.figures.layout import LEFT, LINE, RIGHT, ROW_HEAD, Layout
from reports.figures.parts import key
from reports.figures.signed import draw_scores
from reports.figures.sweep import Quantity, draw_sweep, prompt_of
from reports.generalisation import refit_of
from reports.load import Results
from reports.maps import ScoreMap, score_maps
from reports.text import number, significant
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

SWEEP_KEY = "Sweeps: lines at β = 0, dotted ±1, dashed ±β*; circle where answer and foil cross."


def figure(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    methods: Sequence[str] | None = None,
    quantity: Quantity = "logit",
    width: float | None = None,
) -> "Figure":
    """Return the comparison figure of one model and task.

    `methods` are labels as in the leaderboard; by default all but the controls. Of a control the
    first draw is shown, of several seeds the lowest. Methods without a result are named below.
    Raises UserInputError for a model, task or method that the run does not have, and where there
    is nothing to show. On a given `width` the sweeps stand under the maps.
    """
    from matplotlib.figure import Figure

    model, task = results.one(model, task)
    rows, missing = collect(results, model, task, methods)
    if not rows:
        raise UserInputError(f"no method of {model} · {task} has scores to show")
    layout = Layout.of([_maps(row) for row in rows], f"Maps: {key()}. {SWEEP_KEY}", width)
    below = f"Not shown: {'; '.join(missing)}" if missing else ""
    foot = style.wrap(below, layout.width - LEFT - RIGHT, style.SMALL)
    layout = replace(layout, foot=len(foot))
    with style.context():
        canvas = Figure(figsize=(layout.width, layout.height))
        n_draws = len({refit_of(record) for record in results.of(model, task)})
        _head(canvas, layout, rows, model, task, n_draws)
        for place, row in enumerate(rows):
            _draw_row(canvas, layout, place, row, quantity)
        for line, text in enumerate(reversed(foot)):
            text = style.fit(text, layout.width - LEFT - RIGHT, style.SMALL)
            y = (0.10 + LINE * line) / layout.height
            canvas.text(LEFT / layout.width, y, text, fontsize=style.SMALL, color=style.MUTED)
        return style.literal(canvas)


def data(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    methods: Sequence[str] | None = None,
) -> "DataFrame":
    """Return the numbers of the figure: a row a point of a map, and a row a strength of a sweep.

    Columns: method, part, then site, layer, position, token, score and scale (the end of the
    colours) of a "map"; split, beta, logit_answer, logit_foil, p_answer and p_foil of a "sweep"; of
    a "crossing" beta and the logit at which answer and foil cross; E_0 on test, E_0_unsteered and
    beta (beta*; 1 of trained methods) of a "result". Errors as `figure`.
    """
    from pandas import DataFrame

    model, task = results.one(model, task)
    rows, _ = collect(results, model, task, methods)
    if not rows:
        raise UserInputError(f"no method of {model} · {task} has scores to show")
    return DataFrame([line for row in rows for line in lines_of(row)])


def _head(
    canvas: "Figure", layout: Layout, rows: Sequence[Row], model: str, task: str, n_draws: int
) -> None:
    draw = f" (the first of {n_draws} draws)" if n_draws > 1 else ""
    room = layout.width - LEFT - RIGHT
    size = style.TINY if layout.stacked else style.SMALL
    title = style.fit(f"{model} · {task}", room, style.LARGE, bold=True)
    layout.text(canvas, LEFT, 0.12, title, fontsize=style.LARGE, fontweight="bold")
    for line, split in enumerate(("train", "test")):
        prompt = prompt_of(rows[0].cell, split)
        if prompt is not None:
            text = style.fit(f"{split} prompt{draw}: {prompt.clean}", room, size)
            layout.text(canvas, LEFT, 0.40 + LINE * line, text, fontsize=size)
    for line, text in enumerate(layout.key):
        layout.text(canvas, LEFT, 0.72 + LINE * line, text, fontsize=size, color=style.MUTED)


def _draw_row(canvas: "Figure", layout: Layout, place: int, row: Row, quantity: Quantity) -> None:
    top = layout.top(place)
    head = top - ROW_HEAD + 0.06
    muted = {"fontsize": style.TINY if layout.stacked else style.SMALL, "color": style.MUTED}
    room = layout.width - LEFT - RIGHT
    if layout.stacked:
        name = style.fit(row.label, room, style.NAME, bold=True)
        below = top + layout.map_height + layout.token_room + 0.02
        verdict = style.fit(_verdict(row.record), room, style.TINY)
        layout.text(canvas, LEFT, head + 0.16, row.scores_of, **muted)
        layout.text(canvas, LEFT, below, verdict, **muted)
    else:
        beside = style.width_of(row.scores_of, style.SMALL) + 0.24
        name = style.fit(row.label, layout.sweeps_left - LEFT - beside, style.NAME, bold=True)
        after_name = LEFT + style.width_of(name, style.NAME, bold=True) + 0.12
        layout.text(canvas, after_name, head + 0.025, row.scores_of, **muted)
        layout.text(canvas, layout.sweeps_left, head + 0.025, _verdict(row.record), **muted)
    layout.text(canvas, LEFT, head, name, fontsize=style.NAME, fontweight="bold")
    _draw_maps(canvas, layout, place, row)
    for which, split in enumerate(("train", "test")):
        axes = layout.sweep_axes(canvas, place, which)
        draw_sweep(axes, row.cell, split, quantity, narrow=layout.stacked)


def _verdict(record: CellRecord) -> str:
    """One line: the strength and what it reaches on the test split."""
    star = record.beta.star if record.beta else None
    parts = ["trained for β = ±1" if star is None else f"β* = {significant(star)}"]
    parts += [
        f"E₀ on test {number(row.E_0)}, unsteered {number(row.E_0_unsteered)}"
        for row in on_test(record)
    ]
    return " · ".join(parts)


def _maps(row: Row) -> list[ScoreMap]:
    assert row.record.grid is not None
    return score_maps(row.record.grid, row.scores, tick_names(row))


def _draw_maps(canvas: "Figure", layout: Layout, place: int, row: Row) -> None:
    for site, shown in enumerate(_maps(row)):
        n_layers, n_columns = shown.values.shape
        every = max(1, int(np.ceil(n_columns * 0.115 / layout.map_width)))
        axes = layout.map_axes(canvas, place, site)
        image = draw_scores(axes, shown.values, row.limit)
        axes.set_title(style.fit(shown.title, layout.map_width, style.SMALL), loc="left", pad=4)
        axes.set_xticks(range(0, n_columns, every), shown.columns[::every], rotation=90)
        axes.tick_params(axis="x", length=1.5, pad=1.5)
        layers = range(0, n_layers, 5 if n_layers > 12 else 1)
        axes.set_yticks(layers, [str(layer) for layer in layers] if site == 0 else [])
        if site == 0:
            axes.set_ylabel("layer", labelpad=2)
    bar = layout.bar_axes(canvas, place)
    canvas.colorbar(image, cax=bar)
    ticks = [-row.limit, 0.0, row.limit]
    bar.set_yticks(ticks, [significant(tick, 2) for tick in ticks])
    bar.tick_params(length=1.5, pad=1.5)
