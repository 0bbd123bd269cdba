"""A beta sweep: what the strength does to answer and foil on one prompt."""

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bench.store.cells import Cell
from bench.store.records import PromptRecord
from reports import palette, style

Quantity = Literal["logit", "probability"]
SWEPT = {"logit": ("logit_answer", "logit_foil"), "probability": ("p_answer", "p_foil")}


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
    names = ("beta", *SWEPT[quantity])
    beta, answer, foil = (cell.tensors.get(f"sweep.{split}.{name}") for name in names)
    if beta is None or answer is None or foil is None:
        return None
    return beta, answer[0], foil[0]


def draw_sweep(
    axes: Axes, cell: Cell, split: str, quantity: Quantity, *, narrow: bool = False
) -> None:
    """Draw answer and foil against beta, where they cross, and lines at 0, +-1 and +-beta*.

    Where the cell stores no sweep of the split, the panel says so. A `narrow` panel has the names
    of its curves one below the other.
    """
    found, prompt = curves_of(cell, split, quantity), prompt_of(cell, split)
    if found is None or prompt is None:
        axes.set(xticks=[], yticks=[])
        said = f"no sweep of the{chr(10) if narrow else ' '}{split} split stored"
        how: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "color": style.MUTED}
        axes.text(0.5, 0.5, said, **how)
        return
    beta, answer, foil = found
    star = cell.record.beta.star if cell.record.beta else None
    marks: list[tuple[float, Any]] = [(0.0, "-"), (-1.0, ":"), (1.0, ":")]
    marks += [(sign * star, (0, (4, 2))) for sign in (-1, 1)] if star is not None else []
    for value, dashes in marks:
        if beta.min() <= value <= beta.max():
            axes.axvline(value, color=style.FAINT, linewidth=0.8, linestyle=dashes, zorder=0)
    colours = palette.current()
    for what, word, values, colour, dashes in (
        ("answer", prompt.answer, answer, colours.answer, "-"),
        ("foil", prompt.foil, foil, colours.foil, (0, (4, 1.2))),
    ):
        name = f"{what} {style.token_label(word)}"
        axes.plot(beta, values, color=colour, linestyle=dashes, label=name)
    crossings = crossings_of(beta, answer, foil)
    axes.plot(*crossings, "o", markersize=5, markerfacecolor="white", markeredgecolor=style.INK)
    axes.margins(x=0.03)  # so that lines at the ends of the sweep are seen
    axes.set_xlabel(f"strength β, {split} prompt", labelpad=2)
    axes.set_ylabel(quantity, labelpad=2)
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
