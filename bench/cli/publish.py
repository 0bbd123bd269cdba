"""The commands `publish` and `verify`: results small enough for a repository, and their check."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bench.cli.options import PluginOption
from bench.cli.report import print_paths
from tasks.errors import UserInputError
from tasks.text import counted, visible

if TYPE_CHECKING:
    from reports.published.record import Measured, Published, PublishedCell

E_0_APART, PRICE_APART = 0.03, 0.01
"""Cells computed again agree within so many logits, and within this share of the price."""
SELF_REPORTED = "self-reported: no cell was computed again (--recompute 3 does)"


def publish(
    results: Annotated[Path, typer.Argument(help="A results directory.")],
    folder: Annotated[Path, typer.Argument(help="Where to, such as docs/results.")],
    circuits: Annotated[
        Path | None,
        typer.Option(help="A run of `truth` too: does finding a circuit go with steering?"),
    ] = None,
) -> None:
    """Writes a run's results as small files, with a page of what was found.

    results.json (E_0 and the price on every test prompt), leaderboard.csv and pictures into FOLDER,
    and the page beside it as FOLDER.md. With --circuits, circuits.json and a section of their own.
    """
    from reports.published.write import publish as write

    print_paths(Console(), {"page": write(results, folder, circuits)})


def verify(
    file: Annotated[Path, typer.Argument(help="A results.json that `publish` wrote.")],
    recompute: Annotated[
        int, typer.Option(min=0, help="Compute so many cells again, drawn by chance, and compare.")
    ] = 0,
    plugin: PluginOption = None,
) -> None:
    """Checks published results: every field, every mean over prompts, and cells computed again.

    Exit code 0: all is right; without --recompute the file is still self-reported. 1: it is not.
    """
    from reports.published.record import problems, read

    published = read(file)
    lines = problems(published)
    for line in lines:
        typer.echo(visible(line))
    cells, rows = len(published.cells), sum(len(cell.measured) for cell in published.cells)
    summary = f"{visible(str(file))}: {counted(cells, 'cell')}, {2 * rows} means"
    found = counted(len(lines), "problem") if lines else "all as the prompts give"
    typer.echo(f"{summary}: {found}")
    if lines:
        raise typer.Exit(1)
    if not recompute:
        typer.echo(SELF_REPORTED)
        return
    chosen = random.sample(published.cells, min(recompute, cells))
    differ = sum(not _same_again(published, cell, plugin or ()) for cell in chosen)
    typer.echo(f"{len(chosen) - differ} of {counted(len(chosen), 'cell')} computed again agree")
    raise typer.Exit(1 if differ else 0)


def _same_again(published: Published, cell: PublishedCell, plugins: Sequence[Path]) -> bool:
    """Whether a cell that is computed again has the published numbers; prints how far it is."""
    typer.echo(f"{visible(cell.id)}: is computed again")
    try:
        again = _computed(published, cell, plugins)
    except UserInputError as error:
        typer.echo(f"  {visible(str(error))}")
        return False
    then, now = (dict(_named(one.measured)) for one in (cell, again))
    if then.keys() != now.keys():
        typer.echo("  other strengths, prices or numbers of points")
        return False
    e_0 = max(abs(then[key].E_0 - now[key].E_0) for key in then)
    paid = max(abs(then[key].paid - now[key].paid) / max(then[key].paid, 1e-3) for key in then)
    same = e_0 <= E_0_APART and paid <= PRICE_APART
    typer.echo(
        f"  {'agrees' if same else 'differs'}: E_0 by up to {e_0:.2g} logits, the price by up to "
        f"{100 * paid:.2g} %"
    )
    return same


def _named(rows: Sequence[Measured]) -> list[tuple[tuple[object, ...], Measured]]:
    return [((row.of, row.k, row.nats, row.support, row.draw), row) for row in rows]


def _computed(published: Published, cell: PublishedCell, plugins: Sequence[Path]) -> PublishedCell:
    """The cell as it comes out now, after the one that it starts from.

    Raises:
        UserInputError: if it would not be the same cell today, or fails.
    """
    from bench.execution.reproduce import compute_again
    from bench.matrix.identity import scored_as
    from bench.store.results import RunStore
    from reports.load import load
    from reports.published.cells import published_of
    from reports.published.results import record_of

    wanted = record_of(published, cell)
    parent = wanted.settings.get("parent")
    others = (record_of(published, one) for one in published.cells) if parent else ()
    first = [other for other in others if scored_as(other.settings) == parent]
    if parent and not first:
        raise UserInputError(f"{parent}, which it starts from, is not in the file.")
    with TemporaryDirectory() as folder:
        store = RunStore.create(Path(folder) / "run", published.config)
        for record in (*first, wanted):
            again = compute_again(store, record, plugins=plugins)
            if again.record.error is not None:
                raise UserInputError(f"{record.id} failed: {again.record.error.line}")
            store.write(again.record, again.tensors)
        (found,) = [
            one for one in published_of(load(store.directory)).cells if one.id == again.record.id
        ]
    return found
