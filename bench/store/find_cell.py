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
    if results is not None:
        runs = [results]
    else:
        runs = sorted(
            {
                folder.parent
                for folder in EVERYWHERE.glob(f"**/{CELLS}")
                if (folder.parent / RUN_FILE).exists()
            }
        )
    found = []
    for run in runs:
        store = RunStore.open(run)
        names = store.stored()
        found += [
            (store, name) for name in ([text] if text in names else sorted(names)) if text in name
        ]
    where = " or ".join(str(run) for run in runs) or f"{EVERYWHERE}/"
    if not found:
        known = {name for run in runs for name in RunStore.open(run).stored()}
        raise UserInputError(f'There is no cell "{text}" in {where}.{nearest(text, known)}')
    if len(found) > 1:
        some = ", ".join(str(store.cell_directory(name)) for store, name in found[:5])
        raise UserInputError(f'"{text}" is {len(found)} cells: {some}. Give more of the id.')
    return found[0]
