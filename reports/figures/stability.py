"""Stability between seeds: a dot for every pair of a method's seeds."""

from typing import TYPE_CHECKING

from reports import style
from reports.figures.marks import draw_point, look_of
from reports.figures.panels import canvas_of
from reports.load import Results
from reports.tables.stability import table
from reports.text import number, shorten
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

WIDTH, ROW = 6.75, 0.26


def data(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return tau of every pair of seeds, and each method's mean over the pairs where it is defined.

    Raises UserInputError where no method has two seeds on the same prompts.
    """
    model, task = results.one(model, task)
    frame = table(results, model=model, task=task)
    if frame.empty:
        raise UserInputError(
            f"no method of {model} · {task} has results under two seeds on the same prompts"
        )
    return frame.assign(mean=frame.groupby("method")["tau"].transform("mean"))


def figure(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    width: float | None = None,
) -> "Figure":
    """Return tau between the scores of every two seeds, a row a method. Errors as `data`."""
    model, task = results.one(model, task)
    frame = data(results, model=model, task=task)
    methods = list(dict.fromkeys(frame["method"]))
    width = width or WIDTH
    size = style.SMALL if width > 5 else style.TINY
    with style.context():
        lines = ["a mark for every two seeds of a method"]
        canvas = canvas_of(width, 0.55 + ROW * len(methods), f"{model} · {task}", lines)
        axes = canvas.add_subplot()
        for place, method in enumerate(methods):
            taus = frame[frame["method"] == method]["tau"].dropna().tolist()
            for tau in taus:
                draw_point(axes, tau, place, look_of(results, method))
            if not taus:
                axes.text(0, place, "undefined", va="center", ha="center", fontsize=size)
        names = [_label(name, 40 if width > 5 else 24) for name in methods]
        means = frame.drop_duplicates("method").set_index("method")["mean"]
        axes.set_yticks(range(len(methods)), names, fontsize=size)
        axes.set(xlim=(-1.05, 1.05), ylim=(len(methods) - 0.5, -0.5))
        axes.axvline(0, color=style.FAINT, linewidth=0.8, zorder=0)
        right = axes.secondary_yaxis("right")
        right.set_yticks(range(len(methods)), [f"mean {number(means[m], 2)}" for m in methods])
        right.tick_params(length=0, labelsize=style.TINY)
        for spines in (axes.spines, right.spines):
            spines[["right"]].set_visible(False)
        axes.spines[["top", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("Kendall's τ-b between two seeds", fontsize=size)
        return style.literal(canvas)


def _label(method: str, letters: int) -> str:
    """A method's name in one line or, where that is too long, with its settings under it."""
    if len(method) <= letters or "[" not in method:
        return style.drawable(shorten(method, letters))
    name, _, settings = method.partition("[")
    return "\n".join(style.drawable(shorten(part, letters)) for part in (name, f"[{settings}"))
