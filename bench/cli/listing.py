"""What a results directory holds, as `status` and `plan` print it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import typer

from bench.harmless import harmless
from bench.store.records import CellRecord
from bench.store.upkeep import Survey
from bench.words import counted


def show(
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
    _show_failures(failed)
    for reason in found.problems.values():
        typer.echo(f"  damaged: {harmless(reason)}")
    if found.problems:
        typer.echo("  the next run sets aside what is damaged, and makes it anew")
    for path in found.foreign:
        typer.echo(f"  foreign: {harmless(str(path))} is not of the suite; it is left alone")
    typer.echo(f"{harmless(str(directory))}: {counted(cells, 'cell')} in the matrix")
    width = max(map(len, counts))
    for what, number in counts.items():
        typer.echo(f"  {what.ljust(width)} {number}")


def _show_failures(failed: Iterable[CellRecord]) -> None:
    """A line a failed cell."""
    lines = [
        f"  failed {record.id}  {harmless(record.error.line)}" for record in failed if record.error
    ]
    for line in lines:
        typer.echo(line)
    if lines:
        typer.echo("  a cell's log and settings: python -m bench show CELL --results DIRECTORY")
