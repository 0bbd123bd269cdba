"""What every hyperparameter does to a trained method, the others at their first value."""

from typing import TYPE_CHECKING, Any

import numpy as np

from reports import style
from reports.figures.parts import canvas_of, fitted
from reports.load import Results, plain_name
from reports.palette import looks
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

QUANTITIES = {
    "E_0": "E₀",
    "F": "F (nats)",
    "count": "|θ| ≥ 0.01",
    "smallest_k": "smallest k",
    "mean_size": "mean |score|",
}
NAMES = {
    "method.initial_deviation": "initial noise",
    "method.learning_rate": "learning rate",
    "method.batch_size": "batch size",
    "method.epochs": "epochs",
    "objective.margin": "margin m",
    "objective.lambda_m": "weight λ_M",
    "objective.lambda_f": "weight λ_F",
    "prompts.train": "train prompts",
}
ALL_PROMPTS = "all"


def data(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return a row a method, hyperparameter, value and split.

    Columns: cell, method, hyperparameter, value (text), place (in the order of values), split, and
    the quantities of `QUANTITIES`. Raises UserInputError where nothing was varied.
    """
    from pandas import DataFrame

    model, task = results.one(model, task)
    frame = results.table
    chosen = frame[
        (frame["model"] == model) & (frame["task"] == task) & (frame["status"] == "done")
        & frame["trained"] & frame["split"].isin(["train", "test"])
    ].copy()  # fmt: skip
    rows: list[dict[str, Any]] = []
    chosen["base"] = [plain_name(method) for method in chosen["method"]]
    for method, group in chosen.groupby("base", sort=False):
        rows += _of_method(results, str(method), group)
    if not rows:
        raise UserInputError(
            f"{results.store.directory}: no hyperparameter of a trained method was varied alone on "
            f"{model} · {task}; `grid: alone` does that."
        )
    return DataFrame(rows)


def _of_method(results: Results, method: str, group: "DataFrame") -> list[dict[str, Any]]:
    settings = [name for name in NAMES if name in group and group[name].nunique(dropna=False) > 1]
    text = {name: [_text(value) for value in group[name]] for name in settings}
    usual = {name: max(dict.fromkeys(values), key=values.count) for name, values in text.items()}
    rows = []
    for name in settings:
        others = [other for other in settings if other != name]
        for place, (_, row) in enumerate(group.iterrows()):
            if any(text[other][place] != usual[other] for other in others):
                continue
            scores = results.small_tensors(row["cell"])["scores"]
            rows.append(
                {
                    "cell": row["cell"],
                    "method": method,
                    "hyperparameter": name,
                    "value": text[name][place],
                    "split": row["split"],
                    "E_0": float(row["E_0"]),
                    "F": float(row["F"]),
                    "count": _number(row["minimality_count"]),
                    "smallest_k": _number(row["smallest_k"]),
                    "mean_size": float(np.nanmean(np.abs(scores))),
                }
            )
    return rows


def _text(value: Any) -> str:
    return ALL_PROMPTS if value is None or value != value or _missing(value) else f"{value:g}"


def _missing(value: Any) -> bool:
    return type(value).__name__ == "NAType"


def _number(value: Any) -> float:
    return float("nan") if value is None or _missing(value) else float(value)


def _order(value: str) -> float:
    return float("inf") if value == ALL_PROMPTS else float(value)


def figure(
    results: Results, *, model: str | None = None, task: str | None = None,
    width: float | None = None,
) -> "Figure":  # fmt: skip
    """Return a column a hyperparameter and a row a quantity; filled: test, open: train."""
    model, task = results.one(model, task)
    found = data(results, model=model, task=task)
    names = [name for name in NAMES if name in set(found["hyperparameter"])]
    natural = 1.35 * len(names) + 0.8
    lines = ["each varied with the others at their usual value; filled: test prompts, open: train"]
    with style.context():
        canvas = canvas_of(natural, 1.15 * len(QUANTITIES) + 0.6, f"{model} · {task}", lines)
        panels = canvas.subplots(
            len(QUANTITIES), len(names), sharey="row", sharex="col", squeeze=False
        )
        for row, (quantity, label) in enumerate(QUANTITIES.items()):
            panels[row, 0].set_ylabel(label)
            for column, name in enumerate(names):
                own = found[found["hyperparameter"] == name]
                _draw(panels[row, column], own, quantity)
        for column, name in enumerate(names):
            panels[-1, column].set_xlabel(style.drawable(NAMES[name]))
        canvas.align_ylabels(panels[:, 0])
        if found["method"].nunique() > 1:
            canvas.legend(
                *panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4,
                frameon=False,
            )  # fmt: skip
        return fitted(canvas, width)


def _draw(axes: "Axes", own: "DataFrame", quantity: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    values = sorted(set(own["value"]), key=_order)
    for method, how in looks(dict.fromkeys(own["method"])).items():
        for split, filled in (("train", False), ("test", True)):
            part = own[(own["method"] == method) & (own["split"] == split)]
            part = part.sort_values("value", key=lambda column: column.map(_order))
            places = [values.index(value) for value in part["value"]]
            axes.plot(
                places, part[quantity], "-" if filled else ":", marker=how.marker, markersize=4,
                color=how.colour, linewidth=1, markerfacecolor=how.colour if filled else "white",
                label=style.drawable(method) if filled else None,
            )  # fmt: skip
    axes.set_xticks(range(len(values)), values)
    axes.margins(x=0.12)
    axes.tick_params(labelsize=style.TINY)
