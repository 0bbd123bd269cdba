"""The command `run`: a matrix, or every preset of a suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.cli.closing import close_run, close_suite, interruptible, what_was_done
from bench.cli.report import print_paths
from bench.matrix.config import load_config
from bench.matrix.options import RunOptions
from bench.matrix.schema import Matrix
from bench.matrix.sizes import SMALL
from bench.matrix.suite import Suite, is_suite, load_suite
from tasks.errors import UserInputError
from tasks.registry import lookup

OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The results directory; the matrix's own by default."),
]


def run(
    matrix: Annotated[str, typer.Argument(help="A preset's name or the path of a YAML file.")],
    output: OutputOption = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Run on this model instead; again for several."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Run on this task instead; again for several."),
    ] = None,
    size: Annotated[
        str, typer.Option(help="small, or another size that the preset has, such as paper.")
    ] = SMALL,
    only: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE, such as method=activ_scalar: these cells alone."),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed/--keep-failed", help="Try cells again that failed before."),
    ] = True,
    cell_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds that a cell may take; then it has failed (uses a worker)."),
    ] = None,
    load_timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds that loading a model and preparing a task may take (an hour on workers)."
        ),
    ] = None,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(help="Another results directory, whose finished cells are taken over."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Compute in so many processes.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Compute on a dask cluster: tcp://ADDRESS:PORT.")
    ] = None,
    patience: Annotated[
        float, typer.Option(help="Seconds to wait while a cluster has no worker for what is left.")
    ] = 600,
    threads: Annotated[
        int | None, typer.Option(help="Threads a process; workers share the cores by default.")
    ] = None,
    plugin: Annotated[
        list[Path] | None, typer.Option(help="A file that adds methods, tasks or models.")
    ] = None,
) -> None:
    """Runs a matrix, prints a leaderboard, and writes results and a report.

    `run paper` runs every preset of the paper and writes a table of its claims. Cells that are done
    are never computed again; a cell that fails is a result with its reason.
    """
    options = RunOptions(
        only=tuple(only or ()),
        retry_failed=retry_failed,
        cell_timeout=cell_timeout,
        load_timeout=load_timeout,
        reuse=tuple(reuse or ()),
        workers=workers,
        scheduler=scheduler,
        patience=patience,
        threads=threads,
    )
    console = Console()
    if is_suite(matrix):
        if task:
            raise UserInputError(f"{matrix} is presets with tasks of their own: leave out --task.")
        suite = load_suite(matrix, output, size=size, models=model or (), plugins=plugin or ())
        with interruptible():
            code = run_presets(suite, options, console)
    else:
        config = load_config(
            matrix, size=size, models=model or (), tasks=task or (), plugins=plugin or ()
        )
        with interruptible():
            code = run_cells(config, output, options, console)
    raise typer.Exit(code)


def run_cells(config: Matrix, output: Path | None, options: RunOptions, console: Console) -> int:
    """Runs a matrix, shows its leaderboard and writes its report; gives the exit code."""
    _check_figures(config.figures)
    from bench.execution.progress import TerminalProgress
    from bench.execution.run import run_matrix
    from reports.load import load
    from reports.terminal import terminal_tables
    from reports.write import write_report

    with TerminalProgress(console) as progress:
        outcome = run_matrix(config, output, progress, options)
    directory = outcome.store.directory
    for sentence in what_was_done(outcome):
        console.print(sentence, soft_wrap=True, highlight=False)
    for table in terminal_tables(load(directory), console.width):
        console.print(table)
    print_paths(console, {"results": directory, "report": write_report(directory)})
    return close_run(outcome, console)


def run_presets(suite: Suite, options: RunOptions, console: Console) -> int:
    """Runs the presets of a suite; gives the exit code."""
    from bench.cli.suite import run_suite

    for matrix in suite.matrices.values():
        _check_figures(matrix.figures)
    ended = run_suite(suite, options, console)
    print_paths(console, {"results": suite.directory, "claims": ended.page})
    return close_suite(suite, ended, console)


def _check_figures(names: list[str]) -> None:
    from reports.figures import FIGURES

    for name in names:
        lookup(FIGURES, name, "figure")
