"""Keeping a run directory in order: one writer at a time, nothing damaged, nothing left over."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.files import TEMPORARY, DamagedError, dump, parse, replace_file, set_aside
from bench.records import CellRecord, check_cell_id
from bench.results import (
    CELL_FILE,
    CELLS,
    LOCK_FILE,
    OWNER_FILE,
    TENSOR_FILE,
    CorruptCellError,
    RunStore,
)
from bench.stored_tables import CorruptTableError
from tasks.errors import UserInputError

NOT_KEPT: dict[str, Any] = {"prompts": {}, "metrics": [], "top_tokens": {}, "grid": None}
"""Of 10,000 records this is what would fill the memory."""
PATIENCE_SECONDS = 1.0
"""Those who only look hold the lock for an instant."""


class BusyError(UserInputError):
    """Another process is writing the run."""


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Be the only process that writes a run directory; a killed one holds nothing.

    Raises:
        BusyError: if another process writes it; says which.
    """
    lock = FileLock(directory / LOCK_FILE, timeout=PATIENCE_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"{directory} is being written by {owner_of(directory)}. Wait until it is done: the "
            "same command then adds what is missing. Or give another directory with --output and "
            f"share finished cells with --reuse {directory}."
        ) from None
    try:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        owner = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
        replace_file(directory / OWNER_FILE, dump(owner).encode())
        yield
    finally:
        (directory / OWNER_FILE).unlink(missing_ok=True)
        lock.release()


def is_busy(directory: Path) -> bool:
    """Whether a process is writing the run now."""
    lock = FileLock(directory / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    return False


def owner_of(directory: Path) -> str:
    """Who writes the run, in words."""
    try:
        owner = parse((directory / OWNER_FILE).read_bytes())
        return f"process {owner['process']} on {owner['host']} since {owner['since']}"
    except (OSError, DamagedError, KeyError):
        return "another process"


@dataclass
class Survey:
    """Every cell of a run directory, looked at once, tensors included.

    Attributes:
        cells: the records of sound cells by id, without what only reports need (prompts, metrics).
        problems: what is damaged or foreign, and why.
        is_new: there is no run in the directory yet.
    """

    cells: dict[str, CellRecord] = field(default_factory=dict)
    problems: dict[Path, str] = field(default_factory=dict)
    is_new: bool = False

    def having(self, status: str) -> set[str]:
        """The ids of the sound cells with this status."""
        return {cell.id for cell in self.cells.values() if cell.status == status}


def survey(store: RunStore) -> Survey:
    """Read and check all cells and tables of a run."""
    found = Survey()
    for path in sorted((store.directory / CELLS).iterdir()):
        if path.name.startswith("."):  # a file manager's own
            continue
        try:
            record = store.check(check_cell_id(path.name))
        except CorruptCellError as error:
            found.problems[path] = str(error)
        except ValueError:
            found.problems[path] = f"{path} is no cell: it has no {CELL_FILE}."
        else:
            found.cells[record.id] = record.model_copy(update=NOT_KEPT)
            for foreign in sorted(path.iterdir()):
                if foreign.name not in (CELL_FILE, TENSOR_FILE):
                    found.problems[foreign] = f"{foreign} is not of the suite."
    try:
        store.tables.made_of()
    except CorruptTableError as error:
        found.problems[store.tables.file] = str(error)
    return found


def tidy(store: RunStore, found: Survey) -> list[str]:
    """Set aside what a survey found to be damaged, and remove what killed runs left behind.

    Only for the one that holds `only_writer`.

    Returns:
        a sentence a thing set aside.
    """
    for left in store.directory.glob(f"{TEMPORARY}*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    sentences = []
    for path, reason in found.problems.items():
        if path == store.tables.file:
            store.tables.forget()
            sentences.append(reason)
        else:
            place = set_aside(store.directory, path, reason)
            sentences.append(f"{reason} It is in {place} now.")
    found.problems.clear()
    return sentences
