"""Commands on runs and cells: `status`, `rm`, `show`, `reproduce`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import CellArgument, PluginOption, ResultsOption
from bench.store.files import SET_ASIDE, remove
from bench.store.layout import is_busy, only_writer, owner_of
from bench.store.records import CellRecord
from bench.store.results import RunStore, find_cell
from bench.store.schema import strict_json
from bench.store.upkeep import CellStates, Survey, survey, tidy
from tasks.text import counted, visible

Results = Annotated[Path, typer.Argument(help="A results directory.")]


def status(results: Results) -> None:
    """Shows what a results directory holds: done, failed and missing cells, damage, foreign files.

    Of missing cells, those that lie here under another name are taken over by the next run.
    """
    store = RunStore.open(results)
    found = survey(store)
    states = CellStates.of(planned_of(store, found), found)
    counts: dict[str, object] = {
        "done": len(states.done),
        "failed": len(states.failed),
        "missing": states.missing,
    }
    if states.known_again:
        words = "by the next run: what they compute lies here under other names"
        counts["taken over"] = f"{len(states.known_again)} {words}"
    print_survey(results, len(states.cells), states.failed, found, counts)
    if states.stale:
        lie = counted(
            len(states.stale), "cell of earlier matrices lies", "cells of earlier matrices lie"
        )
        typer.echo(f"  {lie} here too: `rm --stale` removes what no cell needs")
    if is_busy(results):
        typer.echo(f"  being written by {owner_of(results)}")


def planned_of(store: RunStore, found: Survey) -> list[str]:
    """The cells of a run's matrix; all that it holds where it does not say."""
    return sorted(found.cells) if store.planned is None else store.planned


def rm(
    results: Results,
    stale: Annotated[
        bool, typer.Option("--stale", help="Cells of earlier matrices that none of this one needs.")
    ] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Failed cells.")] = False,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="What was damaged and is kept in set-aside/.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed or set aside.")
    ] = False,
) -> None:
    """Removes from a results directory what is not wanted any more.

    Damaged cells are not removed but moved to set-aside/ on the way, as a run does.
    """
    if not (stale or failed or set_aside):
        raise typer.BadParameter("say what: --stale, --failed or --set-aside")
    RunStore.open(results)  # before a lock is made there
    with only_writer(results):
        store = RunStore.open(results)  # another process may just have given it another matrix
        found = survey(store)
        unwanted = set(CellStates.of(planned_of(store, found), found).stale if stale else ())
        if failed:
            unwanted |= found.having("failed")
        paths = [store.cell_directory(name) for name in sorted(unwanted)]
        for path in list(found.problems):
            if path.parent in paths:  # what is foreign in a cell goes with it
                del found.problems[path]
        if set_aside and (results / SET_ASIDE).exists():
            paths.append(results / SET_ASIDE)
        for path in paths:
            if not dry_run:
                remove(path)
            typer.echo(f"{'would remove' if dry_run else 'removed'} {visible(str(path))}")
        if dry_run:
            sentences = [f"would set aside or make anew: {why}" for why in found.problems.values()]
        else:
            sentences = tidy(store, found)
        for sentence in sentences:
            typer.echo(visible(sentence))
    typer.echo(f"{len(paths)} {'would be ' if dry_run else ''}removed")


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
    cell_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds that it may take; of a failed cell, the limit that it had."),
    ] = None,
) -> None:
    """Computes a cell again as it was computed then, and compares every number.

    With the threads, the kind of device, the precision and the rows that its record says; what else
    is different on this machine is shown. Of a failed cell the failure is compared. Exit code 0:
    the same bits, or the same failure. 1: other numbers; the largest differences are shown.
    """
    from bench.execution.reproduce import compare, compute_again

    store, cell_id = find_cell(cell, results)
    stored = store.read(cell_id)
    again = compute_again(
        store, stored.record, matrix=matrix, plugins=plugin or (), cell_timeout=cell_timeout
    )
    difference = compare(stored, again)
    for line in difference.lines:
        typer.echo(line)
    raise typer.Exit(0 if difference.same else 1)


def describe(record: CellRecord) -> Iterator[str]:
    """The lines of a record: identity, settings, provenance, results or the reason why not."""
    yield f"{record.id}: {record.status}"
    for name in ("model", "task", "method", "draw", "seed"):
        yield f"  {name}: {visible(str(getattr(record, name)))}"
    for title, values in (("settings", record.settings), ("provenance", record.provenance)):
        yield f"{title}:"
        for key, value in values.items():
            written = json.dumps(strict_json(value), ensure_ascii=False)
            yield f"  {visible(key)}: {visible(written)}"
    if record.beta is not None and record.beta.star is not None:
        yield f"beta*: {record.beta.star:g}"
    for tried in record.selected:
        words = json.dumps(strict_json(tried.settings))
        yield (
            f"{'selected' if tried.chosen else 'tried'}: {visible(words)}, E_0 {tried.E_0:.4f} on "
            f"{counted(tried.n_prompts, 'validation prompt')}, price {tried.paid:.4f}"
        )
    if record.metrics:
        yield "metrics:"
        for row in record.metrics:
            yield (
                f"  {visible(row.split)}, beta = {row.beta:g}: E_0 {row.E_0:.4f} (unsteered "
                f"{row.E_0_unsteered:.4f}), F {row.F:.4f}, {row.n_prompts} prompts"
            )
    for note in record.notes:
        yield f"note: {visible(note)}"
    if record.error is not None:
        yield f"error: {visible(f'{record.error.kind}: {record.error.message}')}"
        yield "log:"
        for line in record.error.log.splitlines():
            yield f"  {visible(line)}"


def print_survey(
    directory: Path,
    cells: int,
    failed: Iterable[CellRecord],
    found: Survey,
    counts: Mapping[str, object],
) -> None:
    """Prints what failed, what is damaged or foreign, and how many cells there are of each kind.

    Args:
        directory: as its user calls it.
        cells: how many the matrix has.
        failed: records of those that failed.
        found: what the directory holds.
        counts: what is counted, and the number with what there is to say of it.
    """
    lines = [
        f"  failed {record.id}  {visible(record.error.line)}" for record in failed if record.error
    ]
    for line in lines:
        typer.echo(line)
    if lines:
        typer.echo("  a cell's log and settings: python -m bench show CELL --results DIRECTORY")
    for reason in found.problems.values():
        typer.echo(f"  damaged: {visible(reason)}")
    if found.problems:
        typer.echo("  the next run sets aside what is damaged, and makes it anew")
    for path in found.foreign:
        typer.echo(f"  foreign: {visible(str(path))} is not of the suite; it is left alone")
    typer.echo(f"{visible(str(directory))}: {counted(cells, 'cell')} in the matrix")
    width = max(map(len, counts))
    for what, number in counts.items():
        typer.echo(f"  {what.ljust(width)} {number}")
