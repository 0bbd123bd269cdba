"""Where everything of a run lies, what may become one, and the one process that writes it.

run.json                          the resolved matrix and the suite's version
cells/<cell id>/cell.json         a CellRecord and two digests
cells/<cell id>/tensors.safetensors
results.parquet, results.csv      the tidy table; agreement.* beside it
tables.json                       what the tables were made of, and their digests
logs/                             what workers said
set-aside/                        what was damaged or foreign, with the reasons
report/                           written by `reports`
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from bench.store.files import (
    REASONS,
    SET_ASIDE,
    TEMPORARY,
    DamagedError,
    dump,
    parse,
    read_file,
    replace_file,
)
from bench.store.tables import TABLES_FILE
from tasks.errors import UserInputError
from tasks.text import visible

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
PATIENCE_SECONDS = 1.0
"""Those who only look hold the lock for an instant."""
MAX_OWNER_BYTES = 10_000


class NotWritableError(UserInputError):
    """The disk is full, or results cannot be written for another reason that is not the cell's."""


def check_may_become_a_run(directory: Path) -> None:
    """Raises UserInputError for a directory that holds anything else than a run.

    It may be new, empty, a run, hold nothing but what a killed run left behind, or be a run that
    lost its run.json: tables and a report could be anybody's, so only beside cells are they ours.
    """
    check_links(directory)
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


def check_links(directory: Path) -> None:
    """Raises UserInputError where a part of a run would be somewhere else than in the run."""
    for name in (CELLS, SET_ASIDE, f"{SET_ASIDE}/{REASONS}", LOCK_FILE):
        if (directory / name).is_symlink():
            raise UserInputError(
                f"{directory / name} is a symbolic link: nothing is read or written where it "
                "leads. Remove it, or put in its place what it leads to. A run is moved as a "
                "whole; its own directory may be a link."
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


class BusyError(UserInputError):
    """Another process is writing the run."""


@contextmanager
def claim(directory: Path) -> Iterator[Path]:
    """Be the only writer of a run directory, which is given, from its first moment on.

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
                yield directory
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
    lock = FileLock(directory / LOCK_FILE, timeout=PATIENCE_SECONDS)
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


def is_busy(directory: Path) -> bool:
    """Whether a process is writing the run now."""
    try:
        with FileLock(directory / LOCK_FILE, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # nobody can write here
        return False


def owner_of(directory: Path) -> str:
    """Who writes the run, in words."""
    try:
        owner = parse(read_file(directory / OWNER_FILE, MAX_OWNER_BYTES))
        words = f"process {owner['process']} on {owner['host']} since {owner['since']}"
    except (OSError, DamagedError, KeyError):
        return "another process"
    return visible(words)
