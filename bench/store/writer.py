"""One process at a time writes a run directory; a second one says which that is."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from bench.store.files import DamagedError, dump, parse, read_file, replace_file
from bench.store.layout import (
    LOCK_FILE,
    OWNER_FILE,
    RUN_FILE,
    check_may_become_a_run,
    writing,
)
from bench.text import harmless
from tasks.errors import UserInputError

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
