"""The command line, `python -m bench`; commands with much to say have files of their own."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bench.cli import plugins as plugin_commands
from bench.cli import steer as steer_commands
from bench.cli import stored as commands
from bench.cli.plan import plan
from bench.cli.report import print_paths, report
from bench.cli.tasks import tasks
from bench.harmless import harmless
from bench.matrix.config import load_config, preset_names
from bench.matrix.options import LOAD_TIMEOUT, RunOptions
from bench.matrix.schema import Matrix
from bench.matrix.sizes import SMALL
from bench.matrix.suite import Suite, is_suite, load_suite
from tasks.errors import UserInputError
from tasks.registry import lookup

if TYPE_CHECKING:
    from bench.runner import Outcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compares attribution and steering methods on language models: "
    "if scores say where a model does a task, can they steer it?",
)

USER_ERROR = 2
"""Exit code of a mistake in the input, in the matrix or in a cell."""
FAILED_CELLS = 1
"""Exit code when cells failed for another reason."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""A report or a file that was asked for cannot be written either."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The results directory; the matrix's own by default."),
]


for command in (plan, commands.status, commands.rm, commands.show, commands.reproduce):
    app.command()(command)
app.command()(plugin_commands.check)
app.command()(plugin_commands.new_method)
app.command()(steer_commands.export)
app.command()(steer_commands.apply)


@app.command()
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
        float | None, typer.Option(help="Seconds that a cell may take; then it has failed.")
    ] = None,
    load_timeout: Annotated[
        float, typer.Option(help="Seconds that loading a model and preparing a task may take.")
    ] = LOAD_TIMEOUT,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(help="Another results directory, whose finished cells are taken over."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Compute in so many processes (needs the extra dask).")
    ] = None,
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
    if is_suite(matrix):
        if task:
            raise UserInputError(f"{matrix} is presets with tasks of their own: leave out --task.")
        suite = load_suite(matrix, output, size=size, models=model or (), plugins=plugin or ())
        raise typer.Exit(_run_suite(suite, options))
    config = load_config(
        matrix, size=size, models=model or (), tasks=task or (), plugins=plugin or ()
    )
    raise typer.Exit(_run_matrix(config, output, options))


app.command()(report)


def _run_matrix(config: Matrix, output: Path | None, options: RunOptions) -> int:
    """Runs a matrix, shows its leaderboard and writes its report; gives the exit code."""
    _check_figures(config.figures)
    from bench.runner import run_matrix
    from bench.running.progress import TerminalProgress

    console = Console()
    try:
        with TerminalProgress(console) as progress:
            outcome = run_matrix(config, output, progress, options)
    except KeyboardInterrupt:
        print("Interrupted. Finished cells are stored; the same command goes on.", file=sys.stderr)
        return INTERRUPTED
    if outcome.reused:
        console.print(f"{len(outcome.reused)} finished cells were taken over from other runs.")
    if not outcome.computed and not outcome.failed:
        console.print("Every cell of this matrix was done before: nothing was computed.")
    _show_leaderboard(outcome.store.directory, console)
    page = _write_report(outcome.store.directory, None)
    print_paths(console, {"results": outcome.store.directory, "report": page})
    return _closing(outcome, console)


@app.command(name="list")
def list_names() -> None:
    """Lists models, tasks, methods, presets and figures, one line each."""
    from bench.models.load import MODELS
    from bench.plugins import install
    from methods import METHODS
    from reports.figures import FIGURES
    from tasks import TASKS

    install()

    tables = {
        "models": {name: entry.summary for name, entry in MODELS.items()},
        "tasks": {name: entry.summary for name, entry in TASKS.items()},
        "methods": {name: entry.summary for name, entry in METHODS.items()},
        "presets": preset_names(),
        "figures": {name: entry.summary for name, entry in FIGURES.items()},
    }
    width = max(len(name) for table in tables.values() for name in table)
    for title, table in tables.items():
        typer.echo(f"{title}:")
        for name, summary in table.items():
            typer.echo(f"  {harmless(name.ljust(width))}  {harmless(summary)}")


app.command()(tasks)


def main() -> None:
    """Runs the command; a mistake in the user's input ends in one paragraph and exit code 2."""
    try:
        app()
    except UserInputError as error:
        lines = (harmless(line) for line in str(error).splitlines())
        print("Error: " + "\n".join(lines), file=sys.stderr)
        sys.exit(USER_ERROR)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        where = harmless(str(error.filename or "the disk"))
        print(f"Error: {where}: {error.strerror}. Make room, and start again.", file=sys.stderr)
        sys.exit(USER_ERROR)


def _run_suite(suite: Suite, options: RunOptions) -> int:
    """Runs the presets of a suite; gives the exit code."""
    from bench.cli.suite import run_suite

    for matrix in suite.matrices.values():
        _check_figures(matrix.figures)
    console = Console()
    try:
        ended = run_suite(suite, options, console)
    except KeyboardInterrupt:
        print("Interrupted. Finished cells are stored; the same command goes on.", file=sys.stderr)
        return INTERRUPTED
    print_paths(console, {"results": suite.directory, "claims": ended.page})
    lines = [
        f"{name}: {count} cells failed: python -m bench status {suite.directory / name}"
        for name, count in ended.failed.items()
    ]
    lines += [f"{name}: could not be run; its error stands above." for name in ended.broken]
    for line in lines:
        console.print(harmless(line), style="red", markup=False, soft_wrap=True, highlight=False)
    return USER_ERROR if ended.broken else FAILED_CELLS if ended.failed else 0


def _check_figures(names: list[str]) -> None:
    from reports.figures import FIGURES

    for name in names:
        lookup(FIGURES, name, "figure")


def _show_leaderboard(directory: Path, console: Console) -> None:
    from reports.load import load
    from reports.terminal import terminal_tables

    for table in terminal_tables(load(directory), console.width):
        console.print(table)


def _write_report(directory: Path, output: Path | None) -> Path:
    from reports.write import write_report

    return write_report(directory, output)


def _closing(outcome: Outcome, console: Console) -> int:
    """The last lines of a run and its exit code."""
    if not outcome.failed:
        return 0
    console.print(f"{len(outcome.failed)} cells failed:", style="red")
    reasons: dict[str, list[str]] = {}
    for record in outcome.failed:
        assert record.error is not None
        reasons.setdefault(record.error.line, []).append(record.id)
    for reason, ids in reasons.items():
        others = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        console.print(f"  {ids[0]}{others}: {harmless(reason)}", markup=False, soft_wrap=True)
    directory = harmless(str(outcome.store.directory))
    console.print(
        f"All of them: python -m bench status {directory}. One with its log: python -m bench show "
        f"CELL --results {directory}. The same command tries them again; --keep-failed leaves "
        "them.",
        markup=False,
        soft_wrap=True,
    )
    own = {kind.__name__ for kind in _subclasses(UserInputError)}
    ours = all(record.error and record.error.kind in own for record in outcome.failed)
    return USER_ERROR if ours else FAILED_CELLS


def _subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(_subclasses(child) for child in kind.__subclasses__()))
