"""A dask scheduler and workers as other people start them, and what a run on them says."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.execution.cell_runner import Watcher
from bench.matrix.cells import PlannedCell
from bench.store.records import CellRecord

ROOT = Path(__file__).parents[1]
"""On the path of a process, it has the suite."""


def without_suite(folder: Path) -> Path:
    """A folder that on a process's path takes the suite from it, even where that is installed."""
    missing = "raise ModuleNotFoundError(\"No module named 'bench'\", name='bench')\n"
    (folder / "bench.py").write_text(missing)
    return folder


@contextmanager
def process(module: str, folder: Path, path: list[Path], *options: str) -> Iterator[None]:
    """One of dask's own programs, in a folder, with these folders on its path."""
    started = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{module}", "--no-dashboard", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        started.kill()
        started.wait()


@contextmanager
def scheduler(folder: Path, *path: Path) -> Iterator[str]:
    """A scheduler's address."""
    file = folder / "scheduler.json"
    options = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
    with process("dask_scheduler", folder, list(path), *options):
        deadline = time.monotonic() + 120
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"]


@contextmanager
def worker(address: str, name: str, folder: Path, *path: Path) -> Iterator[None]:
    """A worker of a scheduler, called `name`."""
    options = ("--no-nanny", "--nthreads", "1", "--memory-limit", "0", "--name", name)
    with process("dask_worker", folder, list(path), address, *options):
        yield


class Noting(Watcher):
    """Keeps what it is told: names of models, ids of cells, why and whose cell waits, records."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.started: list[str] = []
        self.refusals: list[str] = []
        self.interruptions: list[tuple[str, str]] = []
        self.records: list[CellRecord] = []

    def loading(self, model: str) -> None:
        self.loaded.append(model)

    def starting(self, cell: PlannedCell) -> None:
        self.started.append(cell.id)

    def note(self, why: str) -> None:
        self.refusals.append(why)

    def interrupted(self, cell: PlannedCell, why: str) -> None:
        self.interruptions.append((cell.method.label, why))

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        self.records.append(record)
