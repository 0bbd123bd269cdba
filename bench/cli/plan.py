"""The command `plan`: what a run would do, of a matrix or of every preset of a suite."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import MatrixArgument, PluginOption
from bench.cli.stored import print_survey
from bench.cli.suite import load, planned, plans_of
from bench.matrix.config import SMALL, Suite
from bench.matrix.options import RunOptions
from bench.text import in_one_process
from tasks.text import counted, visible

if TYPE_CHECKING:
    from bench.execution.plan import Plan

AS_FOR_RUN = typer.Option(help="As for run.")
Names = Annotated[list[str] | None, AS_FOR_RUN]


def plan(
    matrix: MatrixArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The results directory.")
    ] = None,
    model: Names = None,
    task: Names = None,
    size: Annotated[str, AS_FOR_RUN] = SMALL,
    only: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, as for run.")] = None,
    reuse: Annotated[list[Path] | None, AS_FOR_RUN] = None,
    plugin: PluginOption = None,
    keep_failed: Annotated[bool, typer.Option("--keep-failed", help="As for run.")] = False,
) -> None:
    """Shows what a run would compute, what is done, what failed, and how long it takes.

    Writes nothing.
    """
    from bench.execution.plan import outlook
    from bench.execution.run import results_directory

    options = RunOptions(
        only=tuple(only or ()), reuse=tuple(reuse or ()), retry_failed=not keep_failed
    )
    found = load(matrix, output, size, model, task, plugin)
    if not isinstance(found, Suite):
        directory = results_directory(found, output)
        describe(planned(found, directory, options), directory, options)
        return
    plans = plans_of(found, options)
    for name in found.matrices:
        typer.echo(f"{name}:" if name in plans else f"{name}: has no such cell")
        if name in plans:
            describe(plans[name], found.directory / name, options)
    left, seconds = outlook(plans.values())
    typer.echo(
        f"{found.name}: {counted(len(plans), 'preset')}, "
        f"{counted(sum(len(one.cells) for one in plans.values()), 'cell')}, "
        f"{left} would run" + (f", {in_one_process(seconds)}" if left else "")
    )


def describe(plan: Plan, directory: Path, options: RunOptions) -> None:
    """Prints a plan."""
    from bench.execution.plan import outlook

    rows = Counter((cell.model_label, cell.task.label, cell.method.label) for cell in plan.left)
    for (model, task, method), count in rows.items():
        typer.echo(f"  would run {count:4d}  {visible(f'{model}  {task}  {method}')}")
    having = plan.found.having("failed") - set(plan.elsewhere)
    failed = [plan.found.cells[cell.id] for cell in plan.cells if cell.id in having]
    takes = f", {in_one_process(outlook([plan])[1])}" if plan.left else ""
    counts = {
        "done": len(plan.done),
        "failed": f"{len(failed)} ({'tried again' if options.retry_failed else 'kept'})",
        "taken over": len(plan.elsewhere),
        "would run": f"{len(plan.left)}{takes}",
    }
    print_survey(directory, len(plan.cells), failed, plan.found, counts)
