"""E_0 of every method with its intervals, beside the unsteered model and the controls."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import style
from reports.figures.marks import draw_row, look_of
from reports.figures.panels import canvas_of, name_rows
from reports.load import Results, of_pair
from reports.tables.leaderboard import leaderboard
from reports.tables.paired import says_nothing
from reports.tables.verdicts import BEATS, BEST, NOT_TOLD_FROM_BEST, WORSE
from reports.text import UNDEFINED, distinct, known
from tasks.errors import UserInputError

ROW, FOOT = 0.21, 0.42
CLIP = 2.5
"""The axis ends at this many times the unsteered E_0, whatever an outlier says."""


@of_pair
def data(results: Results, model: str, task: str) -> DataFrame:
    """Return the leaderboard's columns that the figure shows, those of one split.

    A method without a number has its row too, and `status` says why. Raises UserInputError where no
    method has one.
    """
    board = leaderboard(results, model, task)
    split = next((name for name in ("test", "train") if f"E_0_{name}" in board.columns), None)
    if split is None or board[f"E_0_{split}"].isna().all():
        raise UserInputError(f"no method of {model} · {task} has an E_0 to show")
    ends = [f"E_0_{split}_{unit}_{end}" for unit in ("prompts", "seeds") for end in ("low", "high")]
    columns = ["model", "task", "method", "control", "status", "against_best", "against_controls"]
    frame = board[[*columns, f"E_0_{split}", f"E_0_unsteered_{split}", *ends]]
    return frame.assign(split=split).rename(columns=lambda name: name.replace(f"_{split}", ""))


@of_pair
@style.drawing
def figure(results: Results, model: str, task: str, width: float = style.PAGE) -> Figure:
    """Return a row a method: E_0 (dot), 95 % over prompts (bar), 95 % over seeds or draws (line).

    The dashed line is the unsteered model. Marks on the right are the tests' verdicts. Raises
    UserInputError where no method has a result.
    """
    rows = data(results, model=model, task=task).to_dict("records")
    key = (
        f"E₀ on {rows[0]['split']}: dot; 95 % over prompts: bar; over seeds or draws: line; "
        "unsteered model: dashed"
    )
    names = distinct([row["method"] for row in rows], 44 if width > 5 else 26)
    canvas = canvas_of(width, ROW * len(rows) + FOOT, f"{model} · {task}", [key])
    axes = canvas.add_subplot()
    name_rows(axes, list(map(style.drawable, names)), [_mark(row) for row in rows])
    axes.tick_params(labelsize=style.letters(width))
    _draw(axes, results, rows)
    return canvas


def _draw(axes: Axes, results: Results, rows: list[dict[str, Any]]) -> None:
    unsteered = min(row["E_0_unsteered"] for row in rows if known(row["E_0_unsteered"]))
    ends = [row[name] for row in rows for name in ("E_0", "E_0_prompts_low", "E_0_seeds_low")]
    low = min([unsteered, *filter(known, ends)])
    low = max(low, CLIP * unsteered) * 1.05 if unsteered < 0 else -1.0
    axes.set_xlim(low, -0.03 * low)
    axes.axvline(unsteered, color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 2)), zorder=0)
    axes.axvline(0, color=style.FAINT, linewidth=0.8, zorder=0)
    for place, row in enumerate(rows):
        none = UNDEFINED if row["E_0"] is not None else str(row["status"])
        bars = {"E_0_seeds": 0.8, "E_0_prompts": 2.6}
        draw_row(axes, place, row, look_of(results, row["method"]), "E_0", bars, none)
    axes.set_xlabel("E₀ (0: every prompt flips both ways)", labelpad=2, fontsize=style.SMALL)


def _mark(row: dict[str, Any]) -> str:
    best, controls = (str(row[name] or "") for name in ("against_best", "against_controls"))
    if says_nothing(best) or says_nothing(controls):
        return "?"
    said = ["best" if best.startswith(BEST) else "= best" if best == NOT_TOLD_FROM_BEST else ""]
    if controls not in ("", BEATS):
        said.append("< control" if controls.startswith(WORSE) else "≈ control")
    return " ".join(filter(None, said))
