"""How methods generalise: train prompts (A), other entities (B), another template (C).

After Table 2 of 'Activation Scaling for Steering and Interpreting Language Models' (2024).
"""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame, concat

from reports import style
from reports.figures.marks import look_of
from reports.figures.panels import Panel, sheet
from reports.fronts import points
from reports.load import Results, of_pair, refit_of
from reports.present import split_name
from reports.statistics import AT_MOST_0, t_interval
from tasks.errors import UserInputError

SPLITS = ("train", "test", "shifted")
UNSTEERED = "(unsteered)"
QUANTITIES = {"E_0": "effectiveness E₀", "F": "faithfulness F (nats)"}
KEY = "means over refits with Student's 95 % interval; grey: the unsteered model"


def by_refit(results: Results, model: str, task: str, *, at_price: bool = False) -> DataFrame:
    """Return a row a finished cell and split, controls left out.

    Columns: cell, method, refit, split, E_0, F, E_0_unsteered.

    A refit is a seed and a draw of prompts: cells of one refit saw the same prompts. Strengths are
    those of `reports.fronts.points`.
    """
    found = points(results, model, task, at_price=at_price)
    refits = {record.id: refit_of(record) for record in results.of(model, task)}
    found = found.assign(method=found["label"], refit=found["cell"].map(refits))
    columns = ["cell", "method", "refit", "split", "E_0", "F", "E_0_unsteered"]
    return found[found["split"].isin(SPLITS)][columns]


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a method and split, means over refits with Student's 95 % interval.

    Columns: method, split, n_refits, and E_0, E_0_low, E_0_high, F, F_low, F_high; a row of the
    unsteered model leads each split. Raises UserInputError where the shifted split is missing.
    """
    found = by_refit(results, model, task)
    if "shifted" not in set(found["split"]):
        raise UserInputError(
            f"{results.store.directory}: {model} · {task} was not evaluated on another template; "
            "`prompts: {shifted: 12}` does that."
        )
    rows: list[dict[str, Any]] = []
    for split in SPLITS:
        own = found[found["split"] == split]
        unsteered = own.drop_duplicates("refit")
        unsteered = unsteered.assign(method=UNSTEERED, E_0=unsteered["E_0_unsteered"], F=0.0)
        for method, one in concat([unsteered, own]).groupby("method", sort=False):
            row: dict[str, Any] = {"method": method, "split": split, "n_refits": len(one)}
            for name in ("E_0", "F"):
                mean = t_interval(one[name].tolist(), AT_MOST_0)
                row |= {name: mean.mean, f"{name}_low": mean.low, f"{name}_high": mean.high}
            rows.append(row | ({"F_low": 0.0, "F_high": 0.0} if method == UNSTEERED else {}))
    return DataFrame(rows)


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float | None = None) -> Figure:
    """Return E_0 and F of every method on the three splits, side by side.

    Raises UserInputError where the shifted split was not evaluated.
    """
    found = data(results, model=model, task=task)
    page = sheet(f"{model} · {task}", [KEY], [Panel(3.6, 2.8)] * len(QUANTITIES), 2.5, width)
    for axes, (name, label) in zip(page.axes, QUANTITIES.items(), strict=True):
        _draw(axes, results, found, name)
        axes.set_ylabel(label)
    page.legend()
    return page.canvas


def _draw(axes: Axes, results: Results, found: DataFrame, name: str) -> None:
    methods = [method for method in dict.fromkeys(found["method"]) if method != UNSTEERED]
    look = {method: look_of(results, method) for method in methods}
    step = 0.7 / max(len(methods), 1)
    for place, split in enumerate(SPLITS):
        own = found[found["split"] == split].set_index("method")
        if name == "E_0":
            level = own.loc[UNSTEERED, "E_0"]
            axes.plot([place - 0.42, place + 0.42], [level] * 2, color=style.MUTED, linewidth=1.2)
        for index, method in enumerate(methods):
            row = own.loc[method]
            x = place + (index - (len(methods) - 1) / 2) * step
            how = look[method]
            axes.plot([x, x], [row[f"{name}_low"], row[f"{name}_high"]], color=how.colour)
            axes.plot(
                x, row[name], how.marker, color=how.colour, markersize=5, fillstyle=how.fill,
                label=style.drawable(method) if place == 0 else None,
            )  # fmt: skip
    axes.set_xticks(range(len(SPLITS)), [split_name(split) for split in SPLITS])
    axes.axhline(0, color=style.FAINT, linewidth=0.8, zorder=0)
