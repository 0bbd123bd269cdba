"""The two questions and their answers in one picture: does it steer, does it know where?"""

from matplotlib.figure import Figure
from pandas import DataFrame

from reports import style
from reports.figures.marks import draw_row, look_of
from reports.figures.panels import canvas_of, name_rows
from reports.load import Results, of_pair
from reports.tables.leaderboard import leaderboard
from reports.tables.verdicts import BEATS, LOCALISES
from reports.text import distinct, known
from tasks.errors import UserInputError

ROW, FOOT = 0.21, 0.6
LOW = -0.25
"""The axes begin here: a method that does harm is told so in a number."""
QUESTIONS = {"steers": "Does it steer?", "knows": "Does it know where?"}
ENDS = (("", ""), ("_low", "_prompts_low"), ("_high", "_prompts_high"))
"""Of an interval: what its ends are called here and in the leaderboard."""
ACTING = {"steers": "all points act", "knows": "its few strongest points act"}


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
    """Return a row a method, best first, with two shares of the unsteered E_0 that it makes up for.

    `steers` is that of all points, on test at the price at which methods are compared; `knows` that
    of the k strongest points at one price, averaged over log k. 0: as the model left alone; 1:
    every prompt flips both ways. `_low` and `_high` are 95 % over prompts; `beats_controls` and
    `localises` what the tests say. Raises UserInputError where no method has the first.
    """
    rows = leaderboard(results, model, task).to_dict("records")
    split = "test" if any("E_0_test" in row for row in rows) else "train"
    found = []
    for row in rows:
        unsteered = row.get(f"E_0_unsteered_{split}")
        found.append(
            {name: row[name] for name in ("model", "task", "method", "control")}
            | {f"steers{to}": _share(row.get(f"E_0_{split}{of}"), unsteered) for to, of in ENDS}
            | {f"knows{to}": row.get(f"localisation{of}") for to, of in ENDS}
            | {"beats_controls": row["against_controls"], "localises": row["localises"]}
        )
    steering = [row for row in found if known(row["steers"])]
    if not steering:
        raise UserInputError(f"no method of {model} · {task} has an E_0 to show")
    return DataFrame(steering)


def _share(value: float | None, unsteered: float | None) -> float | None:
    if not known(value) or not known(unsteered) or not unsteered:
        return None
    return 1 - value / unsteered


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float = style.PAGE) -> Figure:
    """Return a row a method: left what all its points do, right what its few strongest do.

    A bar is 95 % over prompts; a tick stands where the method beats its controls. Errors as `data`.
    """
    rows = data(results, model=model, task=task).to_dict("records")
    key = (
        "share of the unsteered E₀ made up for on test, at one price (0: the model left alone; 1: "
        "every prompt flips both ways); bar: 95 % over prompts; ✓: beats its controls"
    )
    canvas = canvas_of(width, ROW * len(rows) + FOOT, f"{model} · {task}", [key])
    names = distinct([row["method"] for row in rows], 40 if width > 5 else 20)
    size = style.letters(width)
    heading = size + 2 if width > 5 else size
    panels = canvas.subplots(1, 2, squeeze=False)[0]
    for axes, (what, verdict) in zip(
        panels, (("steers", "beats_controls"), ("knows", "localises")), strict=True
    ):
        said = ["✓" if row[verdict] in (BEATS, LOCALISES) else "" for row in rows]
        shown = names if what == "steers" else [""] * len(names)
        name_rows(axes, list(map(style.drawable, shown)), said)
        axes.tick_params(labelsize=size)
        axes.set_title(QUESTIONS[what], loc="left", fontsize=heading, fontweight="bold", pad=4)
        axes.set_xlabel(ACTING[what], labelpad=2, fontsize=size)
        axes.set_xlim(LOW, 1.05)
        for place in (0, 1):
            axes.axvline(place, color=style.FAINT, linewidth=0.8, zorder=0)
        for place, row in enumerate(rows):
            look = look_of(results, row["method"])
            draw_row(axes, place, row, look, what, {what: 2.6}, "not measured")
    return canvas
