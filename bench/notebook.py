"""A run as an object for notebooks and scripts: its tables, figures, scores and interventions.

run = bench.open("results/my")
run.leaderboard()
run.scores("activ_patch", task="ioi").sel(site="mlp_out").plot()
"""

from __future__ import annotations

import html
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.figures import FIGURES
from reports.labels import group_cells
from reports.load import Results, load, plain_name
from reports.present import AREA, KNOWS_WHERE, STEERS, formatted
from reports.scores import token_names
from reports.tables import TABLES
from reports.tables.leaderboard import leaderboard
from tasks.errors import UserInputError, nearest
from tasks.registry import lookup
from tasks.text import counted, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure
    from pandas import DataFrame
    from xarray import DataArray

    from bench.store.records import CellRecord
    from methods.core.intervention import Intervention

ANSWERS = (
    *("model", "task", "method", "trained", "control", "status"),
    *("E_0_test", "E_0_unsteered_test", "F_test", "against_best", "against_controls"),
    *("localisation", "localises", "seconds"),
)
"""Columns of the leaderboard that answer the two questions; `table("leaderboard")` has all."""

LEFT = "<style>.bench-run th, .bench-run td {text-align: left !important}</style>"
"""Notebooks set cells to the right; these hold words."""


class Run:
    """A stored run, as it was when it was opened.

    `model` and `task` of its methods may be left out where the run has one only. What is asked for
    and is not there raises UserInputError, which names the nearest.

    Attributes:
        directory: the results directory.
        results: the same behind the functions of `reports`.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.results: Results = load(self.directory)

    def leaderboard(self, model: str | None = None, task: str | None = None) -> DataFrame:
        """Return one row a method: does it steer, and does it know where?

        E_0 and F are on test at the price at which methods are compared, in logits and nats;
        localisation is the share of the unsteered E_0 that the few strongest points make up for.
        `table("leaderboard")` has every column.
        """
        board = leaderboard(self.results, model, task)
        return board[[name for name in ANSWERS if name in board.columns]]

    def table(self, name: str | None = None, **options: Any) -> DataFrame:
        """Return a table by its name in `reports.tables.TABLES`, at full precision.

        Without a name the tidy table of all results, one row a cell x split x strength; a failed
        cell is a row with its reason. `options` are those of the table: `model`, `task`.
        """
        if name is None:
            return self.results.table
        lookup(TABLES, name, "table")
        return TABLES[name].table(self.results, **options)

    def figure(self, name: str, **options: Any) -> Figure:
        """Return a figure by its name in `reports.figures.FIGURES`, as matplotlib has it.

        `options` are those of the figure: `model`, `task`, `width` in inches, often `methods`. Save
        one with `figure.savefig("my.pdf")`.
        """
        lookup(FIGURES, name, "figure")
        _let_notebooks_show_figures()
        return FIGURES[name].figure(self.results, **options)

    def scores(
        self, method: str, *, model: str | None = None, task: str | None = None
    ) -> DataArray:
        """Return a method's scores as a labelled array (site, layer, position).

        They are means over prompts and over the cells of the method (seeds, or draws of a control),
        NaN at points that were left out. A head is a site of its own, as `o.3`. Coordinates are
        sites, layers (from 0) and positions in the prompt (0 is the first token), and beside the
        positions the `token` that the first train prompt has there.
        """
        from xarray import DataArray

        where = self.results.one(model, task)
        label, records = self._cells(method, where)
        first = records[0]
        if first.grid is None:
            raise UserInputError(f"{label} has no scores for {' · '.join(where)}.")
        found = [self.results.small_tensors(one.id) for one in records if one.grid == first.grid]
        if not all("scores" in tensors for tensors in found):
            raise UserInputError(f"{label} has no scores for {' · '.join(where)}.")
        tokens = token_names(first.prompts["train"][0], first.grid.positions, str)
        return DataArray(
            np.mean([tensors["scores"] for tensors in found], axis=0),
            dims=("site", "layer", "position"),
            coords={
                "site": [place.label for place in first.grid.places],
                "layer": range(first.grid.n_layers),
                "position": first.grid.positions,
                "token": ("position", tokens),
            },
            name="score",
            attrs={"model": where[0], "task": where[1], "method": label, "n_cells": len(found)},
        )

    def intervention(
        self,
        method: str,
        *,
        model: str | None = None,
        task: str | None = None,
        seed: int | None = None,
    ) -> Intervention:
        """Return what a method steers with, for `bench.steering.steered(model, it, beta)`.

        `seed` says which cell is meant where the method has several.
        """
        from bench.steering import intervention_of

        where = self.results.one(model, task)
        label, records = self._cells(method, where)
        meant = [one for one in records if seed in (None, one.seed)]
        if len(meant) != 1:
            seeds = ", ".join(str(one.seed) for one in records)
            raise UserInputError(
                f"{label} has {len(meant)} finished cells for {' · '.join(where)}, and one has to "
                f"be meant. Their seeds: {seeds}."
            )
        return intervention_of(self.results.cell(meant[0].id))

    def _cells(self, method: str, where: tuple[str, str]) -> tuple[str, list[CellRecord]]:
        """The label and finished cells of a method, by its label or by its name alone."""
        groups = {
            label: done
            for label, group in group_cells(self.results.of(*where)).items()
            if (done := [one for one in group if one.status == "done"])
        }
        of_name = [label for label in groups if plain_name(label) == method]
        if method not in groups and len(of_name) == 1:
            method = of_name[0]
        if method not in groups:
            hint = f" It has {', '.join(of_name)}." if of_name else nearest(method, groups)
            raise UserInputError(f'{self.directory} has no "{method}" that is done.{hint}')
        return method, groups[method]

    def __repr__(self) -> str:
        """Return where it is and what it has, in one line."""
        pairs = "; ".join(" · ".join(pair) for pair in self.results.pairs())
        return f"Run({str(self.directory)!r}: {self._counts()}: {visible(pairs)})"

    def _counts(self) -> str:
        done = sum(one.status == "done" for one in self.results.records)
        without = sum(one.counts for one in self.results.missing)
        missing = f", {without} without a result" if without else ""
        return f"{counted(done, 'cell')} done{missing}"

    def _repr_html_(self) -> str:
        """Return the leaderboards, for a notebook."""
        return "".join(self._parts())

    def _parts(self) -> Iterator[str]:
        yield LEFT
        yield f"<p><b>{html.escape(visible(str(self.directory)))}</b>: {self._counts()}</p>"
        for model, task in self.results.pairs():
            frame = formatted(leaderboard(self.results, model, task))
            asked = ("method", "kind", "E₀ test (B)", STEERS, AREA, KNOWS_WHERE)
            shown = frame[[name for name in asked if name in frame.columns]]
            whole = [name for name in shown.columns if name not in (STEERS, KNOWS_WHERE)]
            unbroken = {name: shown[name].astype(str).str.replace(" ", "\u00a0") for name in whole}
            yield f"<p>{html.escape(visible(f'{model} · {task}'))}</p>"
            yield shown.assign(**unbroken).to_html(index=False, border=0, classes="bench-run")


def _let_notebooks_show_figures() -> None:
    """Has a notebook draw figures that pyplot did not make; nothing anywhere else."""
    if "IPython" not in sys.modules:
        return
    from IPython.core.getipython import get_ipython
    from IPython.core.pylabtools import select_figure_formats

    shell = get_ipython()
    if shell is not None:
        select_figure_formats(shell, {"png"})
