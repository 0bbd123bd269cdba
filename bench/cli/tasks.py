"""`python -m bench tasks`: how models do on the tasks before anything is steered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.store.tables import spreadsheet_safe
from bench.text import harmless
from tasks.build import build_task
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = ("task", "prompts", "tokens", "LD", "E_0", "answer ahead", "mass", "LD corrupted")
LEFT_OUT_OF_MARKDOWN = ("model", "example", "answer", "foil", "problem")
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
    rows = []
    for name in model or ["smollm2-135m"]:
        for row in measure(
            load_model(name), chosen or every_variety(), n_prompts=prompts, seed=seed
        ):
            rows.append(row)
            done = harmless(f"{row.model}: {row.task}")
            console.print(done, style="dim", markup=False, highlight=False)
    frame = as_frame(rows)
    console.print(_terminal_table(frame))
    for row in rows:
        if row.problem:
            problem = harmless(f"{row.model}: {row.problem}")
            console.print(problem, markup=False, soft_wrap=True)
    if output is not None:
        _write(frame, output)
        console.print(f"table: {output}", soft_wrap=True, markup=False, highlight=False)


def _terminal_table(frame: DataFrame) -> Table:
    columns = ["model", *SHOWN] if frame["model"].nunique() > 1 else list(SHOWN)
    table = Table()
    for name in columns:
        table.add_column(name, overflow="fold")
    for values in frame[columns].itertuples(index=False):
        table.add_row(*(escape(harmless(_text(value))) for value in values))
    return table


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
