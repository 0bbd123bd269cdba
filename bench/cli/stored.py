"""Commands on runs and cells: `status`, `rm`, `show`, `reproduce`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.describe import describe
from bench.harmless import harmless
from bench.store.files import SET_ASIDE, remove
from bench.store.find import find_cell
from bench.store.records import CellRecord
from bench.store.results import RunStore
from bench.store.upkeep import is_busy, only_writer, owner_of, survey, tidy

Results = Annotated[Path, typer.Argument(help="A results directory.")]
CellArgument = Annotated[
    str,
    typer.Argument(help="A cell's directory, or part of its id (then with --results)."),
]
ResultsOption = Annotated[
    Path | None, typer.Option("--results", "-r", help="The results directory of the cell.")
]

PluginOption = Annotated[
    list[Path] | None, typer.Option("--plugin", help="A file that adds methods, tasks or models.")
]


def status(results: Results) -> None:
    """Shows what a results directory holds: done, failed and missing cells, and damage."""
    store = RunStore.open(results)
    found = survey(store)
    planned = store.planned or sorted(found.cells)
    own = [found.cells[name] for name in planned if name in found.cells]
    failed = [record for record in own if record.status == "failed"]
    show_failures(failed)
    for reason in found.problems.values():
        typer.echo(f"  damaged: {harmless(reason)}")
    typer.echo(f"{harmless(str(results))}: {len(planned)} cells in the matrix")
    typer.echo(f"  done    {len(own) - len(failed)}")
    typer.echo(f"  failed  {len(failed)}")
    typer.echo(f"  missing {len(planned) - len(own)}")
    stale = len(found.cells) - len(own)
    if stale:
        typer.echo(f"  {stale} cells of earlier matrices lie here too: `rm --stale` removes them")
    if is_busy(results):
        typer.echo(f"  being written by {owner_of(results)}")


def show_failures(failed: list[CellRecord]) -> None:
    """A line a failed cell."""
    for record in failed:
        assert record.error is not None
        typer.echo(f"  failed {record.id}  {harmless(record.error.line)}")
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
        if set_aside and (results / SET_ASIDE).exists():
            paths.append(results / SET_ASIDE)
        for path in paths:
            typer.echo(f"{'would remove' if dry_run else 'removed'} {harmless(str(path))}")
            if not dry_run:
                remove(path)
        if not dry_run:
            for sentence in tidy(store, survey(store)):
                typer.echo(harmless(sentence))
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


def reproduce(
    cell: CellArgument,
    results: ResultsOption = None,
    matrix: Annotated[
        str | None,
        typer.Option(help="The matrix of a cell that is not of the run's latest one."),
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Computes a cell again as it was computed then, and compares every number.

    With the threads, the kind of device, the precision and the rows that its record says; what else
    is different on this machine is shown. Of a failed cell the failure is compared. Exit code 0:
    the same bits, or the same failure. 1: other numbers; the largest differences are shown.
    """
    from bench.reproduce import compare, compute_again

    store, cell_id = find_cell(cell, results)
    stored = store.read(cell_id)
    again = compute_again(store, stored.record, matrix=matrix, plugins=plugin or ())
    difference = compare(stored, again)
    for line in difference.lines:
        typer.echo(line)
    raise typer.Exit(0 if difference.same else 1)
