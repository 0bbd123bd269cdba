"""The command `run`, its last lines and its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bench.cli.options import MatrixArgument, PluginOption
from bench.cli.report import print_paths
from bench.cli.suite import Ended, load, run_suite
from bench.matrix.config import SMALL, Suite
from bench.matrix.options import RunOptions
from bench.matrix.schema import Matrix
from tasks.errors import UserInputError
from tasks.registry import lookup
from tasks.text import counted, visible

if TYPE_CHECKING:
    from bench.execution.run import Outcome

FAILED_CELLS = 1
"""Exit code when cells failed for another reason than the next."""
USER_ERROR = 2
"""Exit code of a mistake in the input, in the matrix or in a cell."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
MOST_REASONS = 10
"""Why cells failed, in the last lines; `status` has all."""

OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The results directory; the matrix's own by default."),
]
ModelOption = Annotated[
    list[str] | None, typer.Option(help="Run on this model instead; again for several.")
]
TaskOption = Annotated[
    list[str] | None, typer.Option(help="Run on this task instead; again for several.")
]
SizeOption = Annotated[
    str, typer.Option(help="small, or another size that the preset has, such as paper.")
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE, such as method=activ_scalar: these cells alone."),
]
RetryOption = Annotated[
    bool, typer.Option("--retry-failed/--keep-failed", help="Try cells again that failed before.")
]
CellTimeoutOption = Annotated[
    float | None,
    typer.Option(help="Seconds that a cell may take; then it has failed (uses a worker)."),
]
LoadTimeoutOption = Annotated[
    float | None,
    typer.Option(
        help="Seconds that loading a model and preparing a task may take (an hour on workers)."
    ),
]
ReuseOption = Annotated[
    list[Path] | None,
    typer.Option(help="Another results directory, whose finished cells are taken over."),
]
WorkersOption = Annotated[int | None, typer.Option(help="Compute in so many processes.")]
SchedulerOption = Annotated[
    str | None, typer.Option(help="Compute on a dask cluster: tcp://ADDRESS:PORT.")
]
PatienceOption = Annotated[
    float, typer.Option(help="Seconds to wait while a cluster has no worker for what is left.")
]
ThreadsOption = Annotated[
    int | None, typer.Option(help="Threads a process; workers share the cores by default.")
]


def run(
    matrix: MatrixArgument,
    output: OutputOption = None,
    model: ModelOption = None,
    task: TaskOption = None,
    size: SizeOption = SMALL,
    only: OnlyOption = None,
    retry_failed: RetryOption = True,
    cell_timeout: CellTimeoutOption = None,
    load_timeout: LoadTimeoutOption = None,
    reuse: ReuseOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    patience: PatienceOption = 600,
    threads: ThreadsOption = None,
    plugin: PluginOption = None,
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
    found = load(matrix, output, size, model, task, plugin)
    with interruptible():
        if isinstance(found, Suite):
            code = run_presets(found, options, console)
        else:
            code = run_cells(found, output, options, console)
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
    for matrix in suite.matrices.values():
        _check_figures(matrix.figures)
    ended = run_suite(suite, options, console)
    print_paths(console, {"results": suite.directory, "claims": ended.page})
    return close_suite(suite, ended, console)


def _check_figures(names: list[str]) -> None:
    from reports.figures import FIGURES

    for name in names:
        lookup(FIGURES, name, "figure")


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C in the block ends the command, and is said to have lost nothing."""
    try:
        yield
    except KeyboardInterrupt:
        print("Interrupted. Finished cells are stored; the same command goes on.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def what_was_done(outcome: Outcome) -> Iterator[str]:
    """A sentence on each thing that a leaderboard does not show: cells that were there, or are not.

    What was not asked for is what `--only` leaves out.
    """
    planned = len(outcome.store.planned or ())
    done = len(outcome.known) + len(outcome.reused) + len(outcome.computed)
    left_out = planned - done - len(outcome.failed)
    if outcome.reused:
        were = counted(len(outcome.reused), "finished cell was", "finished cells were")
        yield f"{were} taken over, from another run or under another name."
    elif not outcome.computed and not outcome.failed:
        cell = "Every cell of this matrix" if not left_out else "Every cell that --only names"
        yield f"{cell} was done before: nothing was computed."
    if left_out:
        others = counted(left_out, "other cell of the matrix is", "other cells of the matrix are")
        yield f"{others} not done: --only left {'it' if left_out == 1 else 'them'} out."


def close_run(outcome: Outcome, console: Console) -> int:
    """Prints which cells failed and how to see them; gives the exit code."""
    if not outcome.failed:
        return 0
    console.print(f"{counted(len(outcome.failed), 'cell')} failed:", style="red")
    reasons: dict[str, list[str]] = {}
    for record in outcome.failed:
        assert record.error is not None
        reasons.setdefault(record.error.line, []).append(record.id)
    for reason, ids in list(reasons.items())[:MOST_REASONS]:
        others = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        console.print(f"  {ids[0]}{others}: {visible(reason)}", markup=False, soft_wrap=True)
    if len(reasons) > MOST_REASONS:
        console.print(f"  and {counted(len(reasons) - MOST_REASONS, 'further reason')}")
    directory = visible(str(outcome.store.directory))
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


def close_suite(suite: Suite, ended: Ended, console: Console) -> int:
    """Prints in which presets cells failed, and which could not be run; gives the exit code."""
    lines = [
        f"{name}: {counted(count, 'cell')} failed: python -m bench status {suite.directory / name}"
        for name, count in ended.failed.items()
    ]
    lines += [f"{name}: could not be run; its error stands above." for name in ended.broken]
    for line in lines:
        console.print(visible(line), style="red", markup=False, soft_wrap=True, highlight=False)
    return USER_ERROR if ended.broken else FAILED_CELLS if ended.failed else 0


def _subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(_subclasses(child) for child in kind.__subclasses__()))
