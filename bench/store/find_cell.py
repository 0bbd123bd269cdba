"""A cell by what its user calls it: its directory, or part of its id."""

from __future__ import annotations

from pathlib import Path

from bench.store.layout import CELL_FILE, CELLS, RUN_FILE
from bench.store.results import RunStore
from tasks.errors import UserInputError, nearest

EVERYWHERE = Path("results")
"""Where runs are looked for that nobody names."""


def find_cell(text: str, results: Path | None = None) -> tuple[RunStore, str]:
    """The run and the id of a cell.

    Args:
        text: a cell's directory, its cell.json, its id or a part of it.
        results: the run; without it, all runs under `results/` here.

    Raises:
        UserInputError: for no such cell, or several; names them.
    """
    path = Path(text)
    if path.name == CELL_FILE:
        path = path.parent
    if path.is_dir() and path.resolve().parent.name == CELLS:
        path = path.resolve()
        return RunStore.open(path.parents[1]), path.name
    everywhere = (folder.parent for folder in EVERYWHERE.glob(f"**/{CELLS}"))
    runs = [results] if results else sorted(run for run in everywhere if (run / RUN_FILE).exists())
    known = {store: store.stored() for store in map(RunStore.open, runs)}
    found = [
        (store, name)
        for store, names in known.items()
        for name in ([text] if text in names else sorted(names))
        if text in name
    ]
    if not found:
        where = " or ".join(str(run) for run in runs) or f"{EVERYWHERE}/"
        names = {name for names in known.values() for name in names}
        raise UserInputError(f'There is no cell "{text}" in {where}.{nearest(text, names)}')
    if len(found) > 1:
        some = ", ".join(str(store.cell_directory(name)) for store, name in found[:5])
        raise UserInputError(f'"{text}" is {len(found)} cells: {some}. Give more of the id.')
    return found[0]
