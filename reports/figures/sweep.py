"""A beta sweep: what the strength does to answer and foil on one prompt."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.store.cells import Cell
from bench.store.records import CellRecord, PromptRecord
from reports import palette, style
from reports.text import token

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Quantity = Literal["logit", "probability"]
SWEPT = {
    "logit": ("logit_answer", "logit_foil", "logit"),
    "probability": ("p_answer", "p_foil", "probability"),
}


def swept_prompt(cell: Cell, split: str) -> int | None:
    """Return which prompt of the split is swept; None where there is no sweep."""
    chosen = cell.tensors.get(f"sweep.{split}.prompt")
    return int(chosen.flat[0]) if chosen is not None and chosen.size else None


def prompt_of(cell: Cell, split: str) -> PromptRecord | None:
    """Return the swept prompt of a split; its first where none is swept: same positions."""
    prompts = cell.record.prompts.get(split)
    return prompts[swept_prompt(cell, split) or 0] if prompts else None


def curves_of(
    cell: Cell, split: str, quantity: Quantity
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
    """Return beta, answer and foil, each (strength,), of the swept prompt; None without a sweep."""
    answer_key, foil_key, _ = SWEPT[quantity]
    beta = cell.tensors.get(f"sweep.{split}.beta")
    answer, foil = (cell.tensors.get(f"sweep.{split}.{key}") for key in (answer_key, foil_key))
    if beta is None or answer is None or foil is None:
        return None
    return beta, answer[0], foil[0]


def draw_sweep(
    axes: "Axes", cell: Cell, split: str, quantity: Quantity, *, narrow: bool = False
) -> None:
    """Draw answer and foil against beta, where they cross, and lines at 0, +-1 and +-beta*.

    Where the cell stores no sweep of the split, the panel says so. A `narrow` panel has the names
    of its curves one below the other.
    """
    axes.spines[["top", "right"]].set_visible(False)
    found, prompt = curves_of(cell, split, quantity), prompt_of(cell, split)
    if found is None or prompt is None:
        axes.set(xticks=[], yticks=[])
        between = "\n" if narrow else " "
        axes.text(
            *(0.5, 0.5, f"no sweep of the{between}{split} split stored"),
            transform=axes.transAxes,
            ha="center",
            color=style.MUTED,
        )
        return
    beta, answer, foil = found
    for value, dashes in _marks(cell.record, beta):
        axes.axvline(value, color=style.FAINT, linewidth=0.8, linestyle=dashes, zorder=0)
    names = (f"answer {token(prompt.answer, 12)}", f"foil {token(prompt.foil, 12)}")
    colours = palette.current()
    curves = ((answer, colours.answer, "-"), (foil, colours.foil, (0, (4, 1.2))))
    for name, (values, colour, dashes) in zip(names, curves, strict=True):
        axes.plot(beta, values, color=colour, linestyle=dashes, label=style.drawable(name))
    crossings = crossings_of(beta, answer, foil)
    axes.plot(*crossings, "o", markersize=5, markerfacecolor="white", markeredgecolor=style.INK)
    axes.margins(x=0.03)  # so that lines at the ends of the sweep are seen
    axes.set_xlabel(f"strength β, {split} prompt", labelpad=2)
    axes.set_ylabel(SWEPT[quantity][-1], labelpad=2)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=1 if narrow else 2,
        labelspacing=0.15,
        frameon=False,
        borderaxespad=0.1,
        borderpad=0.2,
        handlelength=1.6,
        handletextpad=0.4,
        columnspacing=1.0,
    )


def _marks(record: CellRecord, beta: NDArray[Any]) -> list[tuple[float, Any]]:
    """Where vertical lines go: 0 solid, +-1 dotted, +-beta* dashed, as far as the sweep goes."""
    star = record.beta.star if record.beta else None
    marks: list[tuple[float, Any]] = [(0.0, "-"), (-1.0, ":"), (1.0, ":")]
    if star is not None:
        marks += [(-star, (0, (4, 2))), (star, (0, (4, 2)))]
    return [mark for mark in marks if beta.min() <= mark[0] <= beta.max()]


def crossings_of(
    beta: NDArray[Any], answer: NDArray[Any], foil: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (beta, value) of the points where the two curves cross, by linear interpolation."""
    gap = np.asarray(answer, dtype=np.float64) - foil
    before = np.flatnonzero(np.sign(gap[:-1]) * np.sign(gap[1:]) < 0)
    share = gap[before] / (gap[before] - gap[before + 1])
    where = beta[before] + share * (beta[before + 1] - beta[before])
    value = answer[before] + share * (answer[before + 1] - answer[before])
    exactly = np.flatnonzero(gap == 0)
    return np.append(where, beta[exactly]), np.append(value, answer[exactly])
