"""The command that gives a cell's scores to other programs: `export-scores`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import typer

from bench.cli.options import CellArgument, ResultsOption
from bench.cli.steer import model_of
from bench.store.files import replace_file
from bench.store.results import find_cell
from tasks.errors import UserInputError
from tasks.text import counted, visible

if TYPE_CHECKING:
    from bench.store.cells import Cell


def export_scores(
    cell: CellArgument,
    format: Annotated[
        Literal["mib"], typer.Option(help="Whose format: that of the benchmark MIB.")
    ] = "mib",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; CELL'S-ID.json by default.")
    ] = None,
    over_positions: Annotated[
        Literal["sum", "sum_of_sizes"],
        typer.Option(help="Of the scores of a node, or of their sizes."),
    ] = "sum",
    results: ResultsOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Writes a cell's scores of heads and MLPs as JSON, positions summed.

    The method `file_scores` reads such a file. What the format has no node for is named.
    """
    from methods.core.score_file import score_file

    store, cell_id = find_cell(cell, results)
    file = output or Path(f"{cell_id}.json")
    if file.exists() and not force:
        raise UserInputError(f"{file} is there already and stays as it is; --force replaces it.")
    stored = store.read(cell_id)
    scores, left_out = nodes_of(stored, sizes=over_positions == "sum_of_sizes")
    shape = model_of(stored.record, "cpu").bridge.cfg
    cfg: dict[str, int | bool] = {
        "n_layers": int(shape.n_layers),
        "n_heads": int(shape.n_heads),
        "parallel_attn_mlp": bool(shape.parallel_attn_mlp),
        "d_model": int(shape.d_model),
    }
    content = score_file(cfg, scores)
    try:
        replace_file(file, json.dumps(content, indent=1).encode())
    except OSError as error:
        raise UserInputError(f"{file} cannot be written ({error.strerror}).") from None
    typer.echo(f"wrote {visible(str(file))}: {counted(len(scores), 'node')} with a score")
    without = sum("score" not in node for node in content["nodes"].values()) - 1
    if without:
        typer.echo(
            f"{counted(without, 'node')} of the model without one: the cell has no such site"
        )
    if left_out:
        typer.echo(f"left out, as the format has no node for them: {', '.join(left_out)}")


def nodes_of(cell: Cell, *, sizes: bool = False) -> tuple[dict[str, float], list[str]]:
    """Scores of nodes: those of their points, summed over positions.

    Heads come from z or o (from z where a cell has both), MLPs from mlp_out.

    Args:
        cell: a finished cell.
        sizes: sum |score|, so that positions of opposite sign do not cancel.

    Returns:
        The score of each node, and the sites of the cell that the format has no node for.

    Raises:
        UserInputError: for a cell without scores, or without a site that has nodes.
    """
    from methods.core.points import Place, Site
    from methods.core.score_file import node_name

    record = cell.record
    if record.grid is None or "scores" not in cell.tensors:
        raise UserInputError(f"{record.id} failed, so it has no scores.")
    values = np.nan_to_num(cell.tensors["scores"].astype(np.float64), nan=0.0)
    summed = (np.abs(values) if sizes else values).sum(axis=2)
    heads = Site.Z if Site.Z in record.grid.sites else Site.O
    scores: dict[str, float] = {}
    left_out: list[str] = []
    for row, stored in enumerate(record.grid.places):
        place = Place(Site(stored.site), stored.head)
        if place.site in (heads, Site.MLP_OUT):
            of_place = {str(node_name(place, n)): float(v) for n, v in enumerate(summed[row])}
            scores |= of_place
        elif place.site.value not in left_out:
            left_out.append(place.site.value)
    if not scores:
        raise UserInputError(
            f"{record.id} has scores at {', '.join(left_out)}; the format has nodes for heads (z "
            "or o) and mlp_out alone."
        )
    return scores, left_out
