"""The command `plan`: what a run would do, of a matrix or of every preset of a suite."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.stored import PluginOption, print_survey
from bench.cli.suite import chosen
from bench.matrix.config import SMALL, is_suite, load_config, load_suite
from bench.matrix.options import RunOptions
from bench.matrix.schema import Matrix
from bench.text import counted, harmless, in_one_process
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from bench.execution.plan import Plan


def plan(
    matrix: Annotated[str, typer.Argument(help="A preset's name or the path of a YAML file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The results directory.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="As for run.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="As for run.")] = None,
    size: Annotated[str, typer.Option(help="As for run.")] = SMALL,
    only: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, as for run.")] = None,
    reuse: Annotated[list[Path] | None, typer.Option(help="As for run.")] = None,
    plugin: PluginOption = None,
    keep_failed: Annotated[bool, typer.Option("--keep-failed", help="As for run.")] = False,
) -> None:
    """Shows what a run would compute, what is done, what failed, and how long it takes.

    Writes nothing.
    """
    from bench.execution.run import results_directory

    options = RunOptions(
        only=tuple(only or ()), reuse=tuple(reuse or ()), retry_failed=not keep_failed
    )
    if not is_suite(matrix):
        config = load_config(
            matrix, size=size, models=model or (), tasks=task or (), plugins=plugin or ()
        )
        directory = results_directory(config, output)
        describe(planned(config, directory, options), directory, options)
        return
    if task:
        raise UserInputError(f"{matrix} is presets with tasks of their own: leave out --task.")
    suite = load_suite(matrix, output, size=size, models=model or (), plugins=plugin or ())
    plans = []
    parts = chosen(suite, options.only)
    for name, config in suite.matrices.items():
        if name not in parts:
            typer.echo(f"{name}: has no such cell")
            continue
        own = replace(options, only=parts[name])
        plans.append(planned(config, suite.directory / name, own))
        typer.echo(f"{name}:")
        describe(plans[-1], suite.directory / name, options)
    seconds = [one.seconds for one in plans]
    known = None if None in seconds else sum(filter(None, seconds))
    left = sum(len(one.left) for one in plans)
    typer.echo(
        f"{suite.name}: {counted(len(plans), 'preset')}, "
        f"{counted(sum(len(one.cells) for one in plans), 'cell')}, "
        f"{left} would run" + (f", {in_one_process(known)}" if left else "")
    )


def planned(config: Matrix, directory: Path, options: RunOptions) -> Plan:
    """What a run of a matrix into a directory would do; reads, and writes nothing."""
    from bench.execution.plan import Plan
    from bench.execution.reuse import runs
    from bench.matrix.cells import expand
    from bench.models.bridge import resolve_device
    from bench.models.load import model_digest
    from bench.plugins import install
    from bench.store.upkeep import look

    install(config.plugins)
    cells = expand(config, model_digest, resolve_device)
    return Plan.of(cells, look(directory)[1], options, runs(directory, options.reuse))


def describe(plan: Plan, directory: Path, options: RunOptions) -> None:
    """Prints a plan."""
    rows = Counter((cell.model.name, cell.task.label, cell.method.label) for cell in plan.left)
    for (model, task, method), count in rows.items():
        typer.echo(f"  would run {count:4d}  {harmless(f'{model}  {task}  {method}')}")
    having = plan.found.having("failed") - set(plan.elsewhere)
    failed = [plan.found.cells[cell.id] for cell in plan.cells if cell.id in having]
    takes = f", {in_one_process(plan.seconds)}" if plan.left else ""
    counts = {
        "done": len(plan.done),
        "failed": f"{len(failed)} ({'tried again' if options.retry_failed else 'kept'})",
        "taken over": len(plan.elsewhere),
        "would run": f"{len(plan.left)}{takes}",
    }
    print_survey(directory, len(plan.cells), failed, plan.found, counts)
