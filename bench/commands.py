"""Commands on runs and cells: `plan`, `status`, `rm`, `show`, `reproduce`."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from bench.estimate import in_words
from bench.files import SET_ASIDE
from bench.find import find_cell
from bench.options import RunOptions
from bench.records import CellRecord
from bench.results import RunStore
from bench.show import describe, harmless
from bench.upkeep import is_busy, only_writer, owner_of, survey, tidy

Results = Annotated[Path, typer.Argument(help="A results directory.")]
CellArgument = Annotated[
    str,
    typer.Argument(help="A cell's directory, or part of its id (then with --results)."),
]
ResultsOption = Annotated[
    Path | None, typer.Option("--results", "-r", help="The results directory of the cell.")
]


def plan(
    matrix: Annotated[str, typer.Argument(help="A preset's name or the path of a YAML file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The results directory.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, as for run.")] = None,
    reuse: Annotated[list[Path] | None, typer.Option(help="As for run.")] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="As for run.")] = None,
    keep_failed: Annotated[bool, typer.Option("--keep-failed", help="As for run.")] = False,
) -> None:
    """Shows what a run would compute, what is done, what failed, and how long it takes.

    Writes nothing.
    """
    from bench.bridge import resolve_device
    from bench.cells import expand
    from bench.config import load_config, with_plugins
    from bench.models import model_digest
    from bench.plan import Plan
    from bench.plugins import install
    from bench.results import RUN_FILE
    from bench.reuse import sources
    from bench.runner import look, results_directory
    from bench.upkeep import Survey

    config = with_plugins(load_config(matrix), plugin or ())
    install(config.plugins)
    options = RunOptions(
        only=tuple(only or ()), reuse=tuple(reuse or ()), retry_failed=not keep_failed
    )
    directory = results_directory(config, output)
    found = look(directory)[1] if (directory / RUN_FILE).exists() else Survey()
    planned = Plan.of(expand(config, model_digest, resolve_device), found, options)
    elsewhere = sources(planned.left, options.reuse)
    rows = Counter(
        (cell.model.name, cell.task.label, cell.method.label)
        for cell in planned.left
        if cell.id not in elsewhere
    )
    for (model, task, method), count in rows.items():
        typer.echo(f"  would run {count:4d}  {harmless(f'{model}  {task}  {method}')}")
    failed = [found.cells[cell.id] for cell in planned.cells if cell.id in found.having("failed")]
    _show_failures(failed)
    for reason in found.problems.values():
        typer.echo(f"  damaged: {harmless(reason)}")
    left = sum(rows.values())
    typer.echo(f"{directory}: {len(planned.cells)} cells in the matrix")
    typer.echo(f"  done       {len(planned.done)}")
    typer.echo(f"  failed     {len(failed)} ({'tried again' if not keep_failed else 'kept'})")
    typer.echo(f"  taken over {len(elsewhere)}")
    typer.echo(
        f"  would run  {left}" + (f", {in_words(planned.seconds)} in one process" if left else "")
    )


def status(results: Results) -> None:
    """Shows what a results directory holds: done, failed and missing cells, and damage."""
    store = RunStore.open(results)
    found = survey(store)
    planned = store.planned or sorted(found.cells)
    own = [found.cells[name] for name in planned if name in found.cells]
    failed = [record for record in own if record.status == "failed"]
    _show_failures(failed)
    for reason in found.problems.values():
        typer.echo(f"  damaged: {harmless(reason)}")
    typer.echo(f"{results}: {len(planned)} cells in the matrix")
    typer.echo(f"  done    {len(own) - len(failed)}")
    typer.echo(f"  failed  {len(failed)}")
    typer.echo(f"  missing {len(planned) - len(own)}")
    stale = len(found.cells) - len(own)
    if stale:
        typer.echo(f"  {stale} cells of earlier matrices lie here too: `rm --stale` removes them")
    if is_busy(results):
        typer.echo(f"  being written by {owner_of(results)}")


def _show_failures(failed: list[CellRecord]) -> None:
    for record in failed:
        assert record.error is not None
        first = (record.error.message.splitlines() or [""])[0]
        typer.echo(f"  failed {record.id}  {harmless(f'{record.error.kind}: {first}')}")
    if failed:
        typer.echo("  a cell's log and settings: python -m bench show CELL --results DIRECTORY")


def rm(
    results: Results,
    stale: Annotated[bool, typer.Option("--stale", help="Cells of earlier matrices.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Failed cells.")] = False,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="What was damaged and is kept in set-aside/.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
) -> None:
    """Removes from a results directory what is not wanted any more."""
    if not (stale or failed or set_aside):
        raise typer.BadParameter("say what: --stale, --failed or --set-aside")
    store = RunStore.open(results)
    with only_writer(store.directory):
        found = survey(store)
        unwanted: set[str] = set()
        if stale and store.planned is not None:
            unwanted |= set(found.cells) - set(store.planned)
        if failed:
            unwanted |= found.having("failed")
        paths = [store.cell_directory(name) for name in sorted(unwanted)]
        if set_aside and (results / SET_ASIDE).is_dir():
            paths.append(results / SET_ASIDE)
        for path in paths:
            typer.echo(f"{'would remove' if dry_run else 'removed'} {path}")
            if not dry_run:
                shutil.rmtree(path)
        if not dry_run:
            for sentence in tidy(store, survey(store)):
                typer.echo(sentence)
    typer.echo(f"{len(paths)} removed" if not dry_run else f"{len(paths)} would be removed")


def show(
    cell: CellArgument,
    results: ResultsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The record as JSON.")] = False,
) -> None:
    """Prints a cell: settings, metrics, provenance, and of a failed one the log."""
    store, cell_id = find_cell(cell, results)
    record = store.record(cell_id)
    if as_json:
        typer.echo(json.dumps(json.loads(record.model_dump_json()), indent=1))
        return
    for line in describe(record):
        typer.echo(line)


def reproduce(cell: CellArgument, results: ResultsOption = None) -> None:
    """Computes a cell again and compares every number with the stored one.

    Exit code 0: the same bits. 1: other numbers; the largest differences are shown.
    """
    from bench.reproduce import compare, compute_again

    store, cell_id = find_cell(cell, results)
    stored = store.read(cell_id)
    again = compute_again(store, cell_id)
    difference = compare(stored, again)
    for line in difference.lines:
        typer.echo(line)
    raise typer.Exit(0 if difference.same else 1)
