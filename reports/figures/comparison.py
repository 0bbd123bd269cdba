"""What each method says and whether it steers: score maps beside beta sweeps, one row a method.

After Fig. 9 of 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr, Du,
Snæbjarnarson, West, Cotterell, Schein; Findings of EMNLP 2024).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame

from bench.store.cells import Cell
from bench.store.records import CellRecord
from reports import style
from reports.figures.marks import draw_bar, draw_maps, key, limit_of
from reports.figures.panels import canvas_of
from reports.figures.sweep import Quantity, crossings_of, draw_sweep, prompt_of, swept_prompt
from reports.labels import group_cells, missing_by_label
from reports.load import Results, judged, of_pair, refit_of
from reports.scores import ScoreMap, score_maps, token_names
from reports.text import number, significant
from tasks.errors import UserInputError, nearest
from tasks.text import visible

SWEEP_KEY = "Sweeps: lines at β = 0, dotted ±1, dashed ±β*; circle where answer and foil cross."
COLUMN, LAYER, MAPS, SWEEP, SPARE = 0.130, 0.066, 4.6, 2.6, 0.5
"""Inches that a column and a layer of a map ask for, all maps, a sweep, and colour bars."""
HEAD, STACKED_MAP, STACKED_SWEEP = 1.0, 1.15, 1.6
"""Inches of height: about a map; of a map and a sweep on a given width."""


@dataclass(frozen=True)
class Row:
    """One method's part of the figure.

    Attributes:
        scores: (place, layer, position).
        names: the tokens of the displayed train prompt at the positions of the grid.
        maps: one a site.
    """

    label: str
    cell: Cell
    scores: NDArray[np.floating[Any]]
    scores_of: str
    names: list[str]
    maps: list[ScoreMap]


@of_pair
@style.drawing
def figure(
    results: Results,
    model: str,
    task: str,
    methods: Sequence[str] | None = None,
    quantity: Quantity = "logit",
    width: float | None = None,
) -> Figure:
    """Return the comparison figure of one model and task.

    `methods` are labels as in the leaderboard; by default all but the controls. Of a control the
    first draw is shown, of several seeds the lowest. Methods without a result are named above.
    Raises UserInputError for a model, task or method that the run does not have, and where there
    is nothing to show. On a given `width` the sweeps stand under the maps.
    """
    rows, missing = _collect(results, model, task, methods)
    n_sites = max(len(row.maps) for row in rows)
    n_layers, n_columns = np.max([one.values.shape for row in rows for one in row.maps], axis=0)
    across = float(np.clip(COLUMN * n_columns, MAPS / n_sites, 6.5))
    total = width or n_sites * across + 2 * SWEEP + SPARE
    high = STACKED_MAP if width else float(np.clip(LAYER * n_layers, 1.5, 4.0))
    names = max(style.width_of(name, style.SMALL) for row in rows for name in row.names)
    heights = [HEAD + names + high, *([STACKED_SWEEP] if width else [])]
    n_draws = len({refit_of(record) for record in results.of(model, task)})
    draw = f" (the first of {n_draws} draws)" if n_draws > 1 else ""
    prompts = {split: prompt_of(rows[0].cell, split) for split in ("train", "test")}
    lines = [f"{split} prompt{draw}: {one.clean}" for split, one in prompts.items() if one]
    lines += [f"Maps: {key()}. {SWEEP_KEY}"]
    lines += [f"Not shown: {'; '.join(missing)}"] if missing else []
    canvas = canvas_of(total, sum(heights) * len(rows), f"{model} · {task}", lines)
    if width:  # a line of maps, and under it one of two sweeps
        grid = canvas.add_gridspec(2 * len(rows), 2 * n_sites, height_ratios=heights * len(rows))
    else:
        widths = [across] * n_sites + [SWEEP] * 2
        grid = canvas.add_gridspec(len(rows), n_sites + 2, width_ratios=widths)
    for place, row in enumerate(rows):
        sites, sweeps = range(len(row.maps)), (0, 1)
        if width:
            maps = [grid[2 * place, 2 * at : 2 * at + 2] for at in sites]
            beside = [grid[2 * place + 1, at * n_sites : (at + 1) * n_sites] for at in sweeps]
            across = (total - 2 * SPARE) / n_sites
        else:
            maps = [grid[place, at] for at in sites]
            beside = [grid[place, n_sites + at] for at in sweeps]
        _draw_scores([canvas.add_subplot(one) for one in maps], row, across, style.letters(total))
        for split, where in zip(("train", "test"), beside, strict=True):
            axes = canvas.add_subplot(where)
            draw_sweep(axes, row.cell, split, quantity, narrow=width is not None)
    return canvas


@of_pair
def data(
    results: Results, model: str, task: str, methods: Sequence[str] | None = None
) -> DataFrame:
    """Return the numbers of the figure: a row a point of a map, and a row a strength of a sweep.

    Columns: method, part, then site, layer, position, token, score and scale (the end of the
    colours) of a "map"; split, beta, logit_answer, logit_foil, p_answer and p_foil of a "sweep"; of
    a "crossing" beta and the logit at which answer and foil cross; E_0 on test, E_0_unsteered and
    beta (beta*; 1 of trained methods) of a "result". Errors as `figure`.
    """
    rows, _ = _collect(results, model, task, methods)
    return DataFrame([{"method": row.label} | line for row in rows for line in _lines(row)])


def _draw_scores(panels: list[Axes], row: Row, room: float, size: float) -> None:
    """Draw the maps of a method, and over them what its scores are of and what they reach."""
    whole = room * len(panels)
    notes = style.wrap(f"{row.scores_of} · {_verdict(row.cell.record)}", whole, size)
    name = style.fit(row.label, whole, size + 1, bold=True)
    image = draw_maps(panels, row.maps, limit_of(row.scores), name, notes, room=room, size=size)
    draw_bar(image, panels)


def _verdict(record: CellRecord) -> str:
    """One line: the strength and what it reaches on the test split."""
    star = record.beta.star if record.beta else None
    parts = ["trained for β = ±1" if star is None else f"β* = {significant(star)}"]
    parts += [
        f"E₀ on test {number(row.E_0)}, unsteered {number(row.E_0_unsteered)}"
        for row in judged(record, "test")
    ]
    return " · ".join(parts)


def _collect(
    results: Results, model: str, task: str, methods: Sequence[str] | None
) -> tuple[list[Row], list[str]]:
    """What is shown of every method, and which methods are not, each with the reason."""
    groups = group_cells(results.of(model, task))
    absent = missing_by_label(results, model, task) if methods is None else {}
    missing = [
        f"{visible(label)} ({cells[0].status})"
        for label, cells in absent.items()
        if label not in groups and not cells[0].control
    ]
    if methods is None:
        methods = sorted(
            (label for label, group in groups.items() if not group[0].control),
            key=lambda label: (groups[label][0].trained, label),
        )
    rows: list[Row] = []
    for label in reversed(methods):
        if label not in groups:
            near = nearest(label, groups)
            raise UserInputError(f"{model} · {task} has no method {label!r}.{near}")
        done = [record for record in groups[label] if record.status == "done"]
        cell = results.cell(done[0].id) if done else None
        grid = cell.record.grid if cell else None
        if cell is None or grid is None or "scores" not in cell.tensors:
            missing.insert(0, f"{visible(label)} ({'no scores' if cell else 'failed'})")
        else:
            scores, of = cell.tensors["scores"], "scores of the method, one for all prompts"
            prompt, per_prompt = swept_prompt(cell, "train"), cell.tensors.get("prompt_scores")
            if per_prompt is not None and prompt is not None and prompt < len(per_prompt):
                scores, of = per_prompt[prompt], "scores of the train prompt shown"
            names = token_names(prompt_of(cell, "train"), grid.positions, style.token_label)
            rows.insert(0, Row(label, cell, scores, of, names, score_maps(grid, scores, names)))
    if not rows:
        raise UserInputError(f"no method of {model} · {task} has scores to show")
    return rows, missing


def _lines(row: Row) -> Iterator[dict[str, Any]]:
    """Yield the lines of the figure's CSV that are of one method."""
    grid, tensors, names = row.cell.record.grid, row.cell.tensors, row.names
    assert grid is not None
    for (place, layer, position), score in np.ndenumerate(row.scores):
        yield {
            **{"part": "map", "site": grid.places[place].label},
            **{"layer": layer, "position": grid.positions[position]},
            **{"token": names[position], "score": score, "scale": limit_of(row.scores)},
        }
    keys = ("logit_answer", "logit_foil", "p_answer", "p_foil")
    crossings = []
    for split in ("train", "test"):
        if (betas := tensors.get(f"sweep.{split}.beta")) is not None:
            values = {key: tensors[f"sweep.{split}.{key}"][0] for key in keys}
            for place, beta in enumerate(betas):
                at = {key: of[place] for key, of in values.items()}
                yield {"part": "sweep", "split": split, "beta": beta, **at}
            for beta, value in zip(*crossings_of(betas, *[*values.values()][:2]), strict=True):
                at = {"beta": beta, "logit_answer": value, "logit_foil": value}
                crossings.append({"part": "crossing", "split": split, **at})
    yield from crossings
    for one in judged(row.cell.record, "test"):
        found = {"beta": one.beta, "E_0": one.E_0, "E_0_unsteered": one.E_0_unsteered}
        yield {"part": "result", "split": one.split, **found}
