"""How the unsteered model does on every task: logit difference, and mass on answer and foil.

Beside Table 1 of 'Activation Scaling for Steering and Interpreting Language Models' (2024).
"""

from typing import TYPE_CHECKING

from reports import style
from reports.figures.parts import canvas_of, fitted
from reports.load import Results
from reports.tables.tasks import table
from reports.text import visible
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

SPLIT = "test"


def data(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return the test prompts of `reports.tables.tasks`."""
    found = table(results, model=model, task=task)
    return found[found["split"] == SPLIT].reset_index(drop=True)


def figure(
    results: Results, *, model: str | None = None, task: str | None = None,
    width: float | None = None,
) -> "Figure":  # fmt: skip
    """Return LD with its standard error and the mass on answer and foil, a row a task.

    Raises UserInputError where no task has a finished cell.
    """
    found = data(results, model=model, task=task)
    if found.empty:
        raise UserInputError(f"{results.store.directory} has no finished cell of any task")
    names = [
        style.fit(f"{visible(row.task)} ({row.tokens} tokens)", 3.0, style.SMALL)
        for row in found.itertuples()
    ]
    places = range(len(names))
    lines = [
        f"{int(found['n_prompts'].max())} test prompts a task; LD: logit difference, "
        "mean and standard error"
    ]
    with style.context():
        title = model or str(found["model"].iloc[0])
        canvas = canvas_of(7.4, 0.2 * len(names) + 0.7, f"{title} · unsteered", lines)
        left, right = canvas.subplots(1, 2, width_ratios=(1.6, 1.0))
        left.errorbar(
            found["LD"], places, xerr=found["LD_error"], fmt="o", color=style.INK, markersize=4,
            elinewidth=1,
        )  # fmt: skip
        left.axvline(0, color=style.FAINT, linewidth=0.8, zorder=0)
        left.set_yticks(places, names)
        left.set_xlabel("LD: answer ahead to the right")
        right.barh(places, found["mass"], height=0.6, color=style.MUTED)
        right.set_yticks(places, [""] * len(names))
        right.set_xlim(0, 1)
        right.set_xlabel("P(answer) + P(foil)")
        for axes in (left, right):
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(axis="y", length=0)
        return fitted(canvas, width)
