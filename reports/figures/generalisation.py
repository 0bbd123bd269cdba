"""How methods generalise: train prompts (A), other entities (B), another template (C).

After Table 2 of 'Activation Scaling for Steering and Interpreting Language Models' (2024).
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import style
from reports.figures.marks import look_of
from reports.figures.panels import Panel, sheet
from reports.generalisation import SPLITS, table
from reports.load import Results, of_pair
from reports.present import split_name

QUANTITIES = {"E_0": "effectiveness E₀", "F": "faithfulness F (nats)"}
PANEL = Panel(3.6, 2.8)
KEY = "means over refits with Student's 95 % interval; grey: the unsteered model"


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float | None = None) -> Figure:
    """Return E_0 and F of every method on the three splits, side by side.

    Raises UserInputError where the shifted split was not evaluated.
    """
    found = table(results, model=model, task=task)
    page = sheet(f"{model} · {task}", [KEY], [PANEL] * len(QUANTITIES), 2.5, width)
    for axes, (name, label) in zip(page.axes, QUANTITIES.items(), strict=True):
        _draw(axes, results, found, name)
        axes.set_ylabel(label)
    page.legend()
    return page.canvas


def _draw(axes: Axes, results: Results, found: DataFrame, name: str) -> None:
    methods = [method for method in dict.fromkeys(found["method"]) if method != "(unsteered)"]
    look = {method: look_of(results, method) for method in methods}
    step = 0.7 / max(len(methods), 1)
    for place, split in enumerate(SPLITS):
        own = found[found["split"] == split].set_index("method")
        if name == "E_0":
            level = own.loc["(unsteered)", "E_0"]
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
