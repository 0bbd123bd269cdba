"""How the unsteered model does on every task: logit difference, and mass on answer and foil.

Beside Table 1 of 'Activation Scaling for Steering and Interpreting Language Models' (2024).
"""

from typing import Any

from matplotlib.figure import Figure
from pandas import DataFrame

from reports import style
from reports.figures.panels import Panel, name_rows, sheet
from reports.load import Results, of_part
from reports.tables.tasks import table
from tasks.errors import UserInputError
from tasks.text import visible

SPLIT = "test"
PANELS = [Panel(4.9, 3.6), Panel(2.2, 1.8)]


@of_part
def data(results: Results) -> DataFrame:
    """Return the test prompts of `reports.tables.tasks`."""
    found = table(results)
    return found if found.empty else found[found["split"] == SPLIT].reset_index(drop=True)


@of_part
@style.drawing
def figure(results: Results, width: float | None = None) -> Figure:
    """Return LD with its standard error and the mass on answer and foil, a row a task.

    Raises UserInputError where no task has a finished cell.
    """
    found = data(results)
    if found.empty:
        raise UserInputError(f"{results.store.directory} has no finished cell of any task")
    names = [f"{visible(row.task)} ({row.tokens} tokens)" for row in found.itertuples()]
    lines = [
        f"{int(found['n_prompts'].max())} test prompts a task; LD: logit difference, "
        "mean and standard error"
    ]
    title = f"{found['model'].iloc[0]} · unsteered"
    page = sheet(title, lines, PANELS, 0.2 * len(names) + 0.6, width)
    left, right = page.axes
    how: dict[str, Any] = {"fmt": "o", "color": style.INK, "markersize": 4, "elinewidth": 1}
    left.errorbar(found["LD"], range(len(names)), xerr=found["LD_error"], **how)
    left.axvline(0, color=style.FAINT, linewidth=0.8, zorder=0)
    left.set_xlabel("logit difference")
    right.barh(range(len(names)), found["mass"], height=0.6, color=style.MUTED)
    right.set(xlim=(0, 1), xticks=[0, 0.5, 1], xlabel="P(answer) + P(foil)")
    for axes, total, leads in zip(page.axes, page.widths, page.leads, strict=True):
        shown = [style.fit(name, 0.6 * total, style.SMALL) if leads else "" for name in names]
        name_rows(axes, shown)
        axes.spines["left"].set_visible(True)
    return page.canvas
