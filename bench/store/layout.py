"""Where everything of a run lies, and what may become one.

run.json                          the resolved matrix and the suite's version
cells/<cell id>/cell.json         a CellRecord and two digests
cells/<cell id>/tensors.safetensors
results.parquet, results.csv      the tidy table; agreement.* beside it
tables.json                       what the tables were made of, and their digests
logs/                             what workers said
set-aside/                        what was damaged or foreign, with the reasons
report/                           written by `reports`
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.store.files import SET_ASIDE, TEMPORARY
from bench.store.tables import TABLES_FILE
from tasks.errors import UserInputError

RUN_FILE = "run.json"
CELLS = "cells"
CELL_FILE = "cell.json"
TENSOR_FILE = "tensors.safetensors"
LOCK_FILE = ".lock"
OWNER_FILE = ".owner.json"
LOGS = "logs"
WRITTEN_AT_THE_END = {
    "report",
    *(f"{table}.{kind}" for table in ("results", "agreement") for kind in ("parquet", "csv")),
}
OF_A_RUN = frozenset({RUN_FILE, CELLS, LOGS, SET_ASIDE, TABLES_FILE, *WRITTEN_AT_THE_END})
"""What a run directory holds, hidden files aside."""
WHAT_A_RUN_IS = (
    f"A results directory is one that `python -m bench run` wrote: it contains {RUN_FILE} and a "
    "folder cells/."
)


class NotWritableError(UserInputError):
    """The disk is full, or results cannot be written for another reason that is not the cell's."""


def check_may_become_a_run(directory: Path) -> None:
    """Raises UserInputError for a directory that holds anything else than a run.

    It may be new, empty, a run, hold nothing but what a killed run left behind, or be a run that
    lost its run.json: tables and a report could be anybody's, so only beside cells are they ours.
    """
    check_cells_folder(directory)
    if not directory.exists() or (directory / RUN_FILE).exists():
        return
    ours = {CELLS, LOGS, SET_ASIDE, LOCK_FILE, OWNER_FILE, TABLES_FILE}
    if (directory / CELLS).is_dir():
        ours |= WRITTEN_AT_THE_END
    if not directory.is_dir() or not all(
        path.name in ours or path.name.startswith(TEMPORARY) for path in directory.iterdir()
    ):
        raise UserInputError(
            f"{directory} exists and is not a results directory, so nothing is written there. "
            f"{WHAT_A_RUN_IS} Give an empty or a new directory."
        )


def check_cells_folder(directory: Path) -> None:
    """Raises UserInputError where the cells would be somewhere else than in the run."""
    if (directory / CELLS).is_symlink():
        raise UserInputError(
            f"{directory / CELLS} is a symbolic link: cells are neither read nor written where it "
            "leads. A run is moved as a whole; its own directory may be a link."
        )


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """What goes wrong with the disk in the block is said as NotWritableError."""
    try:
        yield
    except OSError as error:
        raise NotWritableError(
            f"Results cannot be written to {directory}: {error.strerror or error}. Finished cells "
            "are safe; make room and give the same command again."
        ) from error
