"""What the comparison figure shows of every method, and the numbers of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.store.cells import Cell
from bench.store.records import CellRecord, MetricRow
from bench.store.tidy import variant_labels
from reports import style
from reports.figures.sweep import crossings_of, prompt_of, swept_prompt
from reports.labels import missing_by_label
from reports.load import Results
from reports.text import token, visible
from tasks.errors import UserInputError, nearest


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


def collect(
    results: Results, model: str, task: str, methods: Sequence[str] | None
) -> tuple[list[Row], list[str]]:
    """Return what is shown of every method, and which methods are not, each with the reason.

    Raises UserInputError for a method that the run does not have.
    """
    records = results.of(model, task)
    labels = variant_labels(records)
    by_label: dict[str, list[CellRecord]] = {}
    for record in sorted(records, key=lambda one: (one.seed, one.draw)):
        by_label.setdefault(labels[record.id], []).append(record)
    everything = methods is None
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
        cell = results.cell(done[0].id) if done else None
        if cell is None or cell.record.grid is None or "scores" not in cell.tensors:
            missing.append(f"{visible(label)} ({'no scores' if cell else 'failed'})")
        else:
            rows.append(_row(label, cell))
    absent = missing_by_label(results, model, task) if everything else {}
    missing += [
        f"{visible(label)} ({cells[0].status})"
        for label, cells in absent.items()
        if label not in by_label and not cells[0].control
    ]
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


def lines_of(row: Row) -> Iterator[dict[str, Any]]:
    """Yield the lines of the figure's CSV that are of one method."""
    yield from _map_lines(row)
    yield from _sweep_lines(row)
    yield from _crossing_lines(row)
    yield from _result_lines(row)


def _map_lines(row: Row) -> Iterator[dict[str, Any]]:
    grid, names = row.record.grid, tick_names(row)
    assert grid is not None
    for (place, layer, position), score in np.ndenumerate(row.scores):
        yield {
            **{"method": row.label, "part": "map", "site": grid.places[place].label},
            **{"layer": layer, "position": grid.positions[position]},
            **{"token": names[position], "score": score, "scale": row.limit},
        }


def _sweep_lines(row: Row) -> Iterator[dict[str, Any]]:
    keys = ("logit_answer", "logit_foil", "p_answer", "p_foil")
    for split in ("train", "test"):
        for place, beta in enumerate(row.cell.tensors.get(f"sweep.{split}.beta", ())):
            values = {key: row.cell.tensors[f"sweep.{split}.{key}"][0, place] for key in keys}
            yield {"method": row.label, "part": "sweep", "split": split, "beta": beta, **values}


def _crossing_lines(row: Row) -> Iterator[dict[str, Any]]:
    for split in ("train", "test"):
        names = (f"sweep.{split}.{key}" for key in ("beta", "logit_answer", "logit_foil"))
        beta, answer, foil = (row.cell.tensors.get(name) for name in names)
        if beta is None or answer is None or foil is None:
            continue
        for where, value in zip(*crossings_of(beta, answer[0], foil[0]), strict=True):
            found = {"beta": where, "logit_answer": value, "logit_foil": value}
            yield {"method": row.label, "part": "crossing", "split": split, **found}


def _result_lines(row: Row) -> Iterator[dict[str, Any]]:
    for one in on_test(row.record):
        found = {"beta": one.beta, "E_0": one.E_0, "E_0_unsteered": one.E_0_unsteered}
        yield {"method": row.label, "part": "result", "split": one.split, **found}


def on_test(record: CellRecord) -> list[MetricRow]:
    """Return what a cell reaches on test, at the strength that it is judged at."""
    wanted = ("test", "one" if record.trained else "star")
    return [one for one in record.metrics if (one.split, one.beta_kind) == wanted]


def tick_names(row: Row) -> list[str]:
    """Return the tokens of the displayed train prompt at the positions of the grid."""
    assert row.record.grid is not None
    prompt = prompt_of(row.cell, "train")
    tokens = prompt.tokens if prompt else []
    return [
        style.drawable(token(tokens[position])) if 0 <= position < len(tokens) else str(position)
        for position in row.record.grid.positions
    ]
