"""Both answers in a terminal: leaderboards and localisation, as far as there is room."""

import re
from collections.abc import Iterator
from typing import Literal

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from reports.load import Results
from reports.present import AREA, CHECKS, KNOWS_WHERE, STEERS, formatted, missing
from reports.tables.curves import curves
from reports.tables.leaderboard import leaderboard
from reports.text import MISSING, TIMES, number
from tasks.text import visible

WIDE = 110
"""Characters from which on a terminal gets kinds, F and every split."""
WIDE_WITH_CHECKS = 150
"""The same of columns that stand there on request alone."""
LONGEST_LINE = 24
"""Characters from which on a label is written on several lines, broken between its settings."""
MOST_K = 6
"""Numbers of points whose shares are shown; the figure `localisation` has all."""


def terminal_tables(results: Results, width: int = 120) -> Iterator[Table]:
    """Yield two rich tables per model and task, and one of failed cells where there are any.

    First the leaderboard with what the tests say to both questions, then the localisation curves
    where there are such. `width` is that of the terminal, in characters: a narrow one gets fewer
    columns, never cut words or numbers. What verdicts say in brackets, intervals and all other
    columns are in the files.
    """
    for model, task in results.pairs():
        yield _leaderboard(results, model, task, width)
        yield from _localisation(results, model, task)
    if lines := missing(results):
        count = sum(one.counts for one in results.missing)
        table = _table(f"{number(count, 0)} {'cell' if count == 1 else 'cells'} without a result")
        for name in ("status", "cells", "reason"):
            table.add_column(name, overflow="fold", no_wrap=name == "status")
        for line in lines:
            times = "" if line["n_cells"] == "1" else f" {TIMES} {line['n_cells']}"
            what = f"{_label(line['method'])}{times}\n{line['model']} · {line['task']}"
            table.add_row(*map(Text, (line["status"], what, line["reason"])))
        yield table


def _leaderboard(results: Results, model: str, task: str, width: int) -> Table:
    frame = formatted(leaderboard(results, model, task))
    e_0 = [name for name in frame.columns if name.startswith("E₀") and "β" not in name]
    f = [name for name in frame.columns if name.startswith("F ")]
    names = ["method", STEERS, *e_0[:1], AREA, KNOWS_WHERE]
    if width >= WIDE:
        names = ["method", "kind", STEERS, *e_0, *f, AREA, KNOWS_WHERE]
    if width >= WIDE_WITH_CHECKS:
        names += [name for name in CHECKS.values() if name in frame.columns]
    table = _table(f"{model} · {task}")
    labels = [_label(name) for name in frame["method"]]
    for name in names:
        if name in (STEERS, KNOWS_WHERE):
            table.add_column(Text(name), overflow="fold")
        elif name == "method":
            table.add_column(Text(name), overflow="fold", width=_longest_line(labels))
        else:
            justify: Literal["left", "right"] = "left" if name == "kind" else "right"
            table.add_column(Text(name.replace(" ", "\n")), justify=justify, no_wrap=True)
    for label, row in zip(labels, frame.to_dict("records"), strict=True):
        cells = [label if name == "method" else _without_brackets(row[name]) for name in names]
        table.add_row(*map(Text, cells), style=_style(row["kind"]))
    return table


def _localisation(results: Results, model: str, task: str) -> Iterator[Table]:
    """Shares of the unsteered E_0 that the k strongest points make up for, best first."""
    found = sorted(curves(results, model, task, "localisation"), key=lambda one: -one.area)
    every_k = sorted({k for one in found for k in one.x})
    if len(every_k) < 2:
        return
    places = np.linspace(0, len(every_k) - 1, min(len(every_k), MOST_K)).round().astype(int)
    shown = [every_k[place] for place in places]
    table = _table("share of the unsteered E₀ that the k strongest points alone make up for")
    labels = [_label(one.label) for one in found]
    table.add_column("method", overflow="fold", width=_longest_line(labels))
    for k in shown:
        table.add_column(f"k = {number(k, 0)}", justify="right", no_wrap=True)
    for label, one in zip(labels, found, strict=True):
        shares = dict(zip(one.x, map(one.made_up, one.mean), strict=True))
        cells = (number(shares[k], 2) if k in shares else MISSING for k in shown)
        table.add_row(Text(label), *cells, style=_style("control" if one.control else ""))
    yield table


def _table(title: str) -> Table:
    return Table(
        title=Text(visible(title)), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )


def _style(kind: str) -> str:
    return "dim" if kind.startswith(("control", "reference")) else ""


def _label(name: str) -> str:
    """A label on lines that end where a setting does, where it is long."""
    name = visible(name)
    if len(name) <= LONGEST_LINE:
        return name
    return re.sub(r"(?<=,)|(?=\[)", "\n ", name).replace(" · ", "\n · ")


def _longest_line(labels: list[str]) -> int:
    lines = [line for label in labels for line in label.splitlines()]
    return min(max(map(len, lines), default=0), 2 * LONGEST_LINE)


def _without_brackets(text: str) -> str:
    """A verdict or number without what only explains it: numbers of tests, intervals, settings."""
    while (shorter := re.sub(r" ?\[[^\[\]]*\]| \([^()]*\)", "", text)) != text:
        text = shorter
    return text
