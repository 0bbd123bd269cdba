"""`python -m bench tasks`: how models do on the tasks before anything is steered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.store.tables import spreadsheet_safe
from tasks.build import build_task
from tasks.errors import UserInputError
from tasks.text import visible

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = ("task", "prompts", "tokens", "LD", "E_0", "answer ahead", "mass", "LD corrupted")
LEFT_OUT_OF_MARKDOWN = ("model", "example", "answer", "foil", "problem", "dropped")
FORMATS = (".csv", ".md")
LEAST_ROOM = 16
"""Columns of a task's name, however narrow a terminal is."""


def tasks(
    model: Annotated[
        list[str] | None, typer.Option(help="A model; again for several. The embedded one if none.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="A task or a file; again for several. All if none.")
    ] = None,
    prompts: Annotated[
        int, typer.Option(min=1, help="Prompts of each split, if there are so many.")
    ] = 64,
    seed: Annotated[int, typer.Option(help="Draws the prompts.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the table there: .csv or .md.")
    ] = None,
) -> None:
    """Measures how models do on the tasks' test prompts, unsteered: the paper's Table 1."""
    if output is not None and output.suffix not in FORMATS:
        raise UserInputError(f"--output {output}: the table is written as {' or '.join(FORMATS)}.")
    chosen = [build_task(name, {}) for name in task or ()]
    from bench.evaluation.unsteered import as_frame, every_variety, measure
    from bench.models.load import load_model

    console = Console()
    rows, failed = [], []
    for name in model or ["smollm2-135m"]:
        try:
            loaded = load_model(name)
        except UserInputError as error:
            failed.append(str(error))  # what the others gave is shown all the same
            continue
        for row in measure(loaded, chosen or every_variety(), n_prompts=prompts, seed=seed):
            rows.append(row)
            done = visible(f"{row['model']}: {row['task']}")
            console.print(done, style="dim", markup=False, highlight=False)
    if not rows:
        raise UserInputError("\n".join(failed))
    frame = as_frame(rows)
    for table in terminal_tables(frame, console.width):
        console.print(table)
    for row in rows:
        dropped = f"{row['task']}: dropped: {row['dropped']}" if task and row["dropped"] else ""
        for said in filter(None, (row["problem"], dropped)):
            console.print(visible(f"{row['model']}: {said}"), markup=False, soft_wrap=True)
    if output is not None:
        _write(frame, output)
        console.print(f"table: {output}", soft_wrap=True, markup=False, highlight=False)
    if failed:
        raise UserInputError("\n".join(failed))


def terminal_tables(frame: DataFrame, width: int) -> Iterator[Table]:
    """A table a model of at most `width` columns, in which names break between their parts."""
    several = frame["model"].nunique() > 1
    for model, rows in frame.groupby("model", sort=False):
        table = _table(rows, width)
        table.title = escape(_broken(visible(str(model)), width)) if several else None
        yield table


def _table(rows: DataFrame, width: int) -> Table:
    cells = {name: [visible(_text(value)) for value in rows[name]] for name in SHOWN}
    needed = {name: max(map(cell_len, [*name.split(), *cells[name]])) for name in SHOWN}
    first, table = SHOWN[0], Table()
    if sum(needed.values()) + 3 * len(needed) + 1 > width:
        left_out = [needed.popitem()[0]]
        needed[first] = min(needed[first], LEAST_ROOM)
        while len(needed) > 2 and sum(needed.values()) + 2 * len(needed) > width:
            left_out.insert(0, needed.popitem()[0])
        caption = f"{', '.join(left_out)}: on a wider terminal, or in --output"
        table = Table(box=None, padding=(0, 2, 0, 0), caption=caption)
        room = width - 2 - sum(needed[name] + 2 for name in needed if name != first)
        cells[first] = [_broken(name, room) for name in cells[first]]
    for name in needed:
        table.add_column("\n".join(name.split()), no_wrap=name != first, overflow="fold")
    for values in zip(*(cells[name] for name in needed), strict=True):
        table.add_row(*map(escape, values))
    return table


def _broken(name: str, room: int) -> str:
    """A name in lines of at most so many columns, broken behind its parts as far as that does."""
    lines = [""]
    for part in re.findall(r"[^\[,/=_ ]*[\[,/=_ ]*", name):
        if lines[-1] and cell_len(lines[-1] + part.rstrip()) > room:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _text(value: object) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _write(frame: DataFrame, output: Path) -> None:
    from reports.text import markdown

    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".csv":
        spreadsheet_safe(frame).to_csv(output, index=False)
        return
    columns = [name for name in frame.columns if name not in LEFT_OUT_OF_MARKDOWN]
    output.write_text(markdown(frame[columns].map(_text)), "utf-8")
