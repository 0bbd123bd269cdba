"""Keeping a run directory in order: one writer at a time, nothing damaged, nothing left over."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from bench.harmless import harmless
from bench.store.cells import CorruptCellError
from bench.store.files import (
    TEMPORARY,
    DamagedError,
    dump,
    parse,
    read_file,
    remove,
    replace_file,
    set_aside,
)
from bench.store.layout import (
    CELL_FILE,
    CELLS,
    LOCK_FILE,
    OWNER_FILE,
    RUN_FILE,
    TENSOR_FILE,
    check_cells_folder,
    check_may_become_a_run,
    writing,
)
from bench.store.records import CellRecord, check_cell_id
from bench.store.results import CorruptRunError, RunStore
from bench.store.tables import CorruptTableError
from tasks.errors import UserInputError

NOT_KEPT: dict[str, Any] = {"prompts": {}, "metrics": [], "top_tokens": {}, "grid": None}
"""Of 10,000 records this is what would fill the memory."""
PATIENCE_SECONDS = 1.0
"""Those who only look hold the lock for an instant."""
MAX_OWNER_BYTES = 10_000


class BusyError(UserInputError):
    """Another process is writing the run."""


@contextmanager
def claim(directory: Path) -> Iterator[None]:
    """Be the only writer of a run directory from its first moment on.

    A directory that is not there is made; it is gone again if nothing was stored in it.

    Raises:
        UserInputError: for a directory that holds something else.
        BusyError: if another process writes it; says which.
        NotWritableError: if nothing can be written there.
    """
    check_may_become_a_run(directory)
    made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    is_new = not (directory / LOCK_FILE).exists()
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    try:
        with only_writer(directory):
            try:
                yield
            finally:
                if is_new and not (directory / RUN_FILE).exists():
                    with suppress(OSError):  # a system may keep files that are open
                        (directory / OWNER_FILE).unlink(missing_ok=True)
                        (directory / LOCK_FILE).unlink()
    finally:
        with suppress(OSError):  # it is not empty any more
            for folder in made:
                folder.rmdir()


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Be the only process that writes a run directory; a killed one holds nothing.

    Raises:
        BusyError: if another process writes it; says which.
        NotWritableError: if nothing can be written there.
    """
    lock = _lock(directory, PATIENCE_SECONDS)
    with writing(directory):
        try:
            lock.acquire()
        except Timeout:
            raise BusyError(
                f"{directory} is being written by {owner_of(directory)}. Wait until it is done: "
                "the same command then adds what is missing. Or give another directory with "
                f"--output and share finished cells with --reuse {directory}."
            ) from None
    try:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        owner = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
        with writing(directory):
            replace_file(directory / OWNER_FILE, dump(owner).encode())
        yield
    finally:
        (directory / OWNER_FILE).unlink(missing_ok=True)
        lock.release()


def _lock(directory: Path, patience: float) -> BaseFileLock:
    """Raises UserInputError where the lock would be made or emptied somewhere else."""
    file = directory / LOCK_FILE
    if file.is_symlink():
        raise UserInputError(f"{file} is a symbolic link, which no lock is. Remove it.")
    return FileLock(file, timeout=patience)


def is_busy(directory: Path) -> bool:
    """Whether a process is writing the run now."""
    lock = _lock(directory, 0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # nobody can write here
        return False
    lock.release()
    return False


def owner_of(directory: Path) -> str:
    """Who writes the run, in words."""
    try:
        owner = parse(read_file(directory / OWNER_FILE, MAX_OWNER_BYTES))
        words = f"process {owner['process']} on {owner['host']} since {owner['since']}"
    except (OSError, DamagedError, KeyError):
        return "another process"
    return harmless(words)


@dataclass
class Survey:
    """Every cell of a run directory, looked at once, tensors included.

    Attributes:
        cells: the records of sound cells by id, without what only reports need (prompts, metrics).
        problems: what is damaged or foreign, and why.
    """

    cells: dict[str, CellRecord] = field(default_factory=dict)
    problems: dict[Path, str] = field(default_factory=dict)

    def having(self, status: str) -> set[str]:
        """The ids of the sound cells with this status."""
        return {cell.id for cell in self.cells.values() if cell.status == status}


def look(directory: Path) -> tuple[RunStore, Survey]:
    """A run and everything in it, though its run.json or its cells/ may be damaged or missing."""
    check_cells_folder(directory)
    problem = ""
    store = RunStore(directory, {})  # its cells are sound or not by themselves
    if (directory / RUN_FILE).exists():
        try:
            store = RunStore.open(directory)
        except CorruptRunError as error:
            problem = str(error)
    found = survey(store)
    if problem:
        found.problems[directory / RUN_FILE] = problem
    return store, found


def survey(store: RunStore) -> Survey:
    """Read and check all cells and tables of a run."""
    found = Survey()
    cells = store.directory / CELLS
    for path in sorted(cells.iterdir()) if cells.is_dir() else ():
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
        a sentence for each thing that was damaged.

    Raises:
        NotWritableError: if the disk is full.
    """
    sentences = []
    with writing(store.directory):
        for left in store.directory.glob(f"{TEMPORARY}*"):
            remove(left)
        for path, reason in found.problems.items():
            if path == store.tables.file:
                store.tables.forget()
                sentences.append(reason)
            elif path == store.directory / RUN_FILE:
                sentences.append(reason)  # `RunStore.create` keeps a copy
            else:
                place = set_aside(store.directory, path, reason)
                sentences.append(f"{reason} It is in {place} now.")
    found.problems.clear()
    return sentences
