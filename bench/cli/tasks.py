"""`python -m bench tasks`: how models do on the tasks before anything is steered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.store.tables import spreadsheet_safe
from tasks.build import build_task
from tasks.errors import UserInputError
from tasks.text import visible

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = ("task", "prompts", "tokens", "LD", "E_0", "answer ahead", "mass", "LD corrupted")
WIDE = 125
"""Columns of a terminal from which on all of these have room."""
LEFT_OUT_OF_MARKDOWN = ("model", "example", "answer", "foil", "problem", "dropped")
FORMATS = (".csv", ".md")


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
    """A table a model, of fewer columns in a narrow terminal; names may break, numbers do not."""
    several, shown = frame["model"].nunique() > 1, SHOWN if width >= WIDE else SHOWN[:-1]
    caption = None if width >= WIDE else f"{SHOWN[-1]}: on a wider terminal, or in --output"
    for model, rows in frame.groupby("model", sort=False):
        title = Text(visible(str(model))) if several else None
        table = Table(title=title, caption=caption, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in shown:
            header = "\n".join(name.split())
            table.add_column(header, no_wrap=name != "task", overflow="fold")
        for values in rows[list(shown)].itertuples(index=False):
            table.add_row(*(Text(visible(_text(value))) for value in values))
        yield table


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
