"""What each method says and whether it steers: score maps beside beta sweeps, one row a method.

After Fig. 9 of 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr, Du,
Snæbjarnarson, West, Cotterell, Schein; Findings of EMNLP 2024).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.records import CellRecord
from bench.results import Cell, CorruptCellError
from bench.table import variant_labels
from reports import style
from reports.figures.sweep import Quantity, draw_sweep, prompt_of, swept_prompt
from reports.load import Results
from reports.maps import ScoreMap, score_maps
from reports.text import number, significant, token, visible
from tasks.errors import UserInputError, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

KEY = (
    "Maps: blue favours the answer, orange the foil; hatched points are excluded. "
    "Sweeps: lines at β = 0, dotted ±1, dashed ±β*; circle where answer and foil cross."
)

# Sizes in inches. Text has a fixed size, so its room must not depend on the number of rows.
LEFT, RIGHT, TOP, BOTTOM = 0.55, 0.15, 1.00, 0.30
CELL_WIDTH, CELL_HEIGHT = 0.130, 0.066
BAR_GAP, BAR, BAR_LABELS = 0.08, 0.09, 0.42
PANEL_GAP, SWEEP, SWEEP_GAP = 0.12, 2.15, 0.52
ROW_HEAD, TOKENS, SWEEP_FOOT = 0.56, 0.10, 0.48
MAPS = 4.2  # the least width of all maps together: room for the row's head


@dataclass(frozen=True)
class Row:
    """One method's part of the figure. `scores` has shape (place, layer, position)."""

    label: str
    record: CellRecord
    scores: NDArray[np.floating[Any]]
    scores_of: str
    cell: Cell

    @property
    def limit(self) -> float:
        """The largest absolute score: the scale of the row, symmetric around zero."""
        finite = np.abs(self.scores[np.isfinite(self.scores)])
        return float(finite.max()) if finite.size and finite.max() > 0 else 1.0


def figure(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    methods: Sequence[str] | None = None,
    quantity: Quantity = "logit",
) -> "Figure":
    """Return the comparison figure of one model and task.

    `methods` are labels as in the leaderboard; by default all but the controls. Of a control the
    first draw is shown, of several seeds the lowest. Methods without a result are named below.
    Raises UserInputError for a model, task or method that the run does not have, and where there
    is nothing to show.
    """
    from matplotlib.figure import Figure

    model, task = results.one(model, task)
    rows, missing = _collect(results, model, task, methods)
    if not rows:
        raise UserInputError(f"no method of {model} · {task} has scores to show")
    layout = _Layout.of(rows)
    with style.context():
        canvas = Figure(figsize=(layout.width, layout.height))
        _head(canvas, layout, rows, model, task)
        for place, row in enumerate(rows):
            _draw_row(canvas, layout, place, row, quantity)
        if missing:
            text = f"Not shown: {'; '.join(missing)}"
            text = style.fit(text, layout.width - LEFT - RIGHT, style.SMALL)
            y = 0.10 / layout.height
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

    Columns: method, part ("map" or "sweep"), then site, layer, position, token and score of a map,
    split, beta, logit_answer, logit_foil, p_answer and p_foil of a sweep. Errors as `figure`.
    """
    from pandas import DataFrame

    model, task = results.one(model, task)
    rows, _ = _collect(results, model, task, methods)
    if not rows:
        raise UserInputError(f"no method of {model} · {task} has scores to show")
    return DataFrame([line for row in rows for line in (*_map_lines(row), *_sweep_lines(row))])


def _map_lines(row: Row) -> Iterator[dict[str, Any]]:
    grid, names = row.record.grid, _tick_names(row)
    assert grid is not None
    for (site, layer, position), score in np.ndenumerate(row.scores):
        yield {
            **{"method": row.label, "part": "map", "site": grid.sites[site], "layer": layer},
            **{"position": grid.positions[position], "token": names[position], "score": score},
        }


def _sweep_lines(row: Row) -> Iterator[dict[str, Any]]:
    keys = ("logit_answer", "logit_foil", "p_answer", "p_foil")
    for split in ("train", "test"):
        for place, beta in enumerate(row.cell.tensors.get(f"sweep.{split}.beta", ())):
            values = {key: row.cell.tensors[f"sweep.{split}.{key}"][0, place] for key in keys}
            yield {"method": row.label, "part": "sweep", "split": split, "beta": beta, **values}


def _collect(
    results: Results, model: str, task: str, methods: Sequence[str] | None
) -> tuple[list[Row], list[str]]:
    records = results.of(model, task)
    labels = variant_labels(records)
    by_label: dict[str, list[CellRecord]] = {}
    for record in sorted(records, key=lambda one: (one.seed, one.draw)):
        by_label.setdefault(labels[record.id], []).append(record)
    if methods is None:
        methods = sorted(
            (label for label, group in by_label.items() if not group[0].control),
            key=lambda label: (by_label[label][0].trained, label),
        )
    rows: list[Row] = []
    missing: list[str] = []
    for label in methods:
        if label not in by_label:
            raise UserInputError(
                f"{model} · {task} has no method {label!r}.{nearest(label, by_label)}"
            )
        done = [record for record in by_label[label] if record.status == "done"]
        try:
            cell = results.cell(done[0].id) if done else None
        except CorruptCellError:
            cell = None
        if cell is None or cell.record.grid is None or "scores" not in cell.tensors:
            missing.append(f"{visible(label)} ({'no scores' if cell else 'failed'})")
        else:
            rows.append(_row(label, cell))
    return rows, missing


def _row(label: str, cell: Cell) -> Row:
    prompt = swept_prompt(cell, "train")
    per_prompt = cell.tensors.get("prompt_scores")
    if per_prompt is not None and prompt is not None and prompt < len(per_prompt):
        return Row(label, cell.record, per_prompt[prompt], "scores of the train prompt shown", cell)
    return Row(
        label,
        cell.record,
        cell.tensors["scores"],
        "scores of the method, one for all prompts",
        cell,
    )


@dataclass(frozen=True)
class _Layout:
    """Where things go, in inches from the upper left corner."""

    n_rows: int
    n_sites: int
    map_width: float
    map_height: float
    token_room: float

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "_Layout":
        maps = [_maps(row) for row in rows]
        n_sites = max(len(of_row) for of_row in maps)
        n_layers, n_columns = np.max(
            [one.values.shape for of_row in maps for one in of_row], axis=0
        )
        names = {name for of_row in maps for one in of_row for name in one.columns}
        longest = max((style.width_of(name, style.SMALL) for name in names), default=0.0)
        return cls(
            len(rows),
            n_sites,
            float(np.clip(CELL_WIDTH * n_columns, MAPS / n_sites, 6.5)),
            float(np.clip(CELL_HEIGHT * n_layers, 1.5, 4.0)),
            TOKENS + longest,
        )

    @property
    def row_height(self) -> float:
        return ROW_HEAD + self.map_height + max(self.token_room, SWEEP_FOOT)

    @property
    def maps_right(self) -> float:
        return LEFT + self.n_sites * self.map_width + (self.n_sites - 1) * PANEL_GAP

    @property
    def sweeps_left(self) -> float:
        return self.maps_right + BAR_GAP + BAR + BAR_LABELS + SWEEP_GAP

    @property
    def width(self) -> float:
        return self.sweeps_left + 2 * SWEEP + SWEEP_GAP + RIGHT

    @property
    def height(self) -> float:
        return TOP + self.n_rows * self.row_height + BOTTOM

    def top(self, place: int) -> float:
        return TOP + place * self.row_height + ROW_HEAD

    def add_axes(self, canvas: "Figure", left: float, top: float, width: float) -> "Axes":
        box = (
            left / self.width,
            1 - (top + self.map_height) / self.height,
            width / self.width,
            self.map_height / self.height,
        )
        return canvas.add_axes(box)

    def text(self, canvas: "Figure", left: float, top: float, text: str, **how: Any) -> None:
        x, y = left / self.width, 1 - top / self.height
        canvas.text(x, y, style.drawable(text), va="top", **how)


def _head(canvas: "Figure", layout: _Layout, rows: Sequence[Row], model: str, task: str) -> None:
    room = layout.width - LEFT - RIGHT
    title = style.fit(f"{model} · {task}", room, style.LARGE, bold=True)
    layout.text(canvas, LEFT, 0.12, title, fontsize=style.LARGE, fontweight="bold")
    for line, split in enumerate(("train", "test")):
        prompt = prompt_of(rows[0].cell, split)
        if prompt is not None:
            text = style.fit(f"{split} prompt: {prompt.clean}", room, style.SMALL)
            layout.text(canvas, LEFT, 0.40 + 0.16 * line, text, fontsize=style.SMALL)
    layout.text(canvas, LEFT, 0.72, KEY, fontsize=style.SMALL, color=style.MUTED)


def _draw_row(canvas: "Figure", layout: _Layout, place: int, row: Row, quantity: Quantity) -> None:
    top = layout.top(place)
    head = top - ROW_HEAD + 0.06
    room = layout.sweeps_left - LEFT - style.width_of(row.scores_of, style.SMALL) - 0.24
    name = style.fit(row.label, room, style.NAME, bold=True)
    layout.text(canvas, LEFT, head, name, fontsize=style.NAME, fontweight="bold")
    muted = {"fontsize": style.SMALL, "color": style.MUTED}
    after_name = LEFT + style.width_of(name, style.NAME, bold=True) + 0.12
    layout.text(canvas, after_name, head + 0.025, row.scores_of, **muted)
    layout.text(canvas, layout.sweeps_left, head + 0.025, _verdict(row.record), **muted)
    _draw_maps(canvas, layout, top, row)
    for place_of_sweep, split in enumerate(("train", "test")):
        left = layout.sweeps_left + place_of_sweep * (SWEEP + SWEEP_GAP)
        draw_sweep(layout.add_axes(canvas, left, top, SWEEP), row.cell, split, quantity)


def _verdict(record: CellRecord) -> str:
    """One line: the strength and what it reaches on the test split."""
    star = record.beta.star if record.beta else None
    parts = ["trained for β = ±1" if star is None else f"β* = {significant(star)}"]
    wanted = ("test", "one" if record.trained else "star")
    for row in record.metrics:
        if (row.split, row.beta_kind) == wanted:
            parts.append(f"E₀ on test {number(row.E_0)}, unsteered {number(row.E_0_unsteered)}")
    return " · ".join(parts)


def _tick_names(row: Row) -> list[str]:
    """The tokens of the displayed train prompt at the positions of the grid."""
    assert row.record.grid is not None
    prompt = prompt_of(row.cell, "train")
    tokens = prompt.tokens if prompt else []
    return [
        style.drawable(token(tokens[position])) if 0 <= position < len(tokens) else str(position)
        for position in row.record.grid.positions
    ]


def _maps(row: Row) -> list[ScoreMap]:
    assert row.record.grid is not None
    return score_maps(row.record.grid, row.scores, _tick_names(row))


def _draw_maps(canvas: "Figure", layout: _Layout, top: float, row: Row) -> None:
    for place, shown in enumerate(_maps(row)):
        n_layers, n_columns = shown.values.shape
        every = max(1, int(np.ceil(n_columns * 0.115 / layout.map_width)))
        left = LEFT + place * (layout.map_width + PANEL_GAP)
        axes = layout.add_axes(canvas, left, top, layout.map_width)
        axes.patch.set(facecolor=style.EXCLUDED, hatch="//////", edgecolor=style.MUTED, linewidth=0)
        image = axes.imshow(
            np.ma.masked_invalid(shown.values),
            cmap=style.diverging(),
            vmin=-row.limit,
            vmax=row.limit,
            aspect="auto",
            origin="lower",
            interpolation="nearest",
        )
        axes.set_title(style.fit(shown.title, layout.map_width, style.SMALL), loc="left", pad=4)
        axes.set_xticks(range(0, n_columns, every), shown.columns[::every], rotation=90)
        axes.tick_params(axis="x", length=1.5, pad=1.5)
        layers = range(0, n_layers, 5 if n_layers > 12 else 1)
        axes.set_yticks(layers, [str(layer) for layer in layers] if place == 0 else [])
        if place == 0:
            axes.set_ylabel("layer", labelpad=2)
    bar = layout.add_axes(canvas, layout.maps_right + BAR_GAP, top, BAR)
    canvas.colorbar(image, cax=bar)
    ticks = [-row.limit, 0.0, row.limit]
    bar.set_yticks(ticks, [significant(tick, 2) for tick in ticks])
    bar.tick_params(length=1.5, pad=1.5)
