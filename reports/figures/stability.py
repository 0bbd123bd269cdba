"""Stability between seeds: a dot for every pair of a method's seeds."""

from matplotlib.figure import Figure
from pandas import DataFrame

from reports import style
from reports.figures.marks import draw_point, look_of
from reports.figures.panels import canvas_of, name_rows
from reports.load import Results, of_pair
from reports.tables.stability import table
from reports.text import UNDEFINED, number
from tasks.errors import UserInputError

ROW = 0.26


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
    """Return tau of every pair of seeds, and each method's mean over the pairs where it is defined.

    Raises UserInputError where no method has two seeds on the same prompts.
    """
    frame = table(results, model=model, task=task)
    if frame.empty:
        raise UserInputError(
            f"no method of {model} · {task} has results under two seeds on the same prompts"
        )
    return frame.assign(mean=frame.groupby("method")["tau"].transform("mean"))


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float = style.PAGE) -> Figure:
    """Return tau between the scores of every two seeds, a row a method. Errors as `data`."""
    frame = data(results, model=model, task=task)
    groups = dict(list(frame.groupby("method", sort=False)))
    lines = ["a mark for every two seeds of a method"]
    canvas = canvas_of(width, 0.55 + ROW * len(groups), f"{model} · {task}", lines)
    axes = canvas.add_subplot()
    for place, (method, own) in enumerate(groups.items()):
        for tau in own["tau"].dropna():
            draw_point(axes, tau, place, look_of(results, method))
        if own["tau"].isna().all():
            axes.text(0, place, UNDEFINED, va="center", ha="center", fontsize=style.TINY)
    names = [
        "\n".join(style.wrap(name.replace("[", " ["), width / 3, style.TINY)) for name in groups
    ]
    means = [f"mean {number(own['mean'].iloc[0], 2)}" for own in groups.values()]
    name_rows(axes, names, means)
    axes.set_xlim(-1.05, 1.05)
    axes.axvline(0, color=style.FAINT, linewidth=0.8, zorder=0)
    axes.set_xlabel("Kendall's τ-b between two seeds", fontsize=style.letters(width))
    return canvas
