"""`python -m bench run paper`: presets one after the other, and a first page of claims."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench.harmless import harmless
from bench.matrix.config import preset_names
from bench.matrix.options import RunOptions
from bench.matrix.suite import Suite, load_suite
from bench.running.estimate import estimated_seconds, in_words
from bench.store.layout import RUN_FILE
from bench.store.results import RunStore
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from bench.store.records import CellRecord
    from reports.write import ReportOptions


def run_suite(suite: Suite, options: RunOptions, console: Console) -> tuple[int, int, Path]:
    """Runs every preset of a suite, writes its report, and then the suite's first page.

    What is wrong with one preset leaves the others alone. Finished cells are not computed again.

    Returns:
        How many cells failed, how many presets could not be run, and the first page.
    """
    from bench.runner import run_matrix
    from bench.running.progress import TerminalProgress
    from reports.claims.write import write_claims
    from reports.write import ReportOptions, write_report

    console.print(_announcement(suite), soft_wrap=True, highlight=False)
    failed = broken = 0
    for place, (name, matrix) in enumerate(suite.matrices.items(), start=1):
        console.print(f"[bold]{name}[/bold] ({place} of {len(suite.matrices)})", highlight=False)
        directory = suite.directory / name
        try:
            with TerminalProgress(console) as progress:
                outcome = run_matrix(matrix, directory, progress, options)
            failed += len(outcome.failed)
            write_report(directory, options=ReportOptions(figures=matrix.figures))
        except UserInputError as error:
            broken += 1
            print(f"Error in {name}: {harmless(str(error))}", file=sys.stderr)
    suite.directory.mkdir(parents=True, exist_ok=True)
    page = write_claims(suite.directory, list(suite.matrices))
    return failed, broken, page


def runs_of_suite(directory: Path) -> list[str]:
    """The presets whose results are in a folder, the paper's in its order; none of a run itself."""
    if (directory / RUN_FILE).exists():
        return []
    names = dict.fromkeys([*load_suite("paper").matrices, *preset_names()])
    return [name for name in names if (directory / name / RUN_FILE).exists()]


def report_suite(directory: Path, options: ReportOptions) -> Path:
    """Writes the report of every run of a suite anew, and the suite's first page."""
    from reports.claims.write import write_claims
    from reports.write import write_report

    presets = runs_of_suite(directory)
    for name in presets:
        write_report(directory / name, options=options)
    return write_claims(directory, presets)


def _done_cells(directory: Path) -> Callable[[str], CellRecord | None]:
    """Finds finished cells of a run; what is damaged counts as not done: the run sets it aside."""
    try:
        store = RunStore.open(directory)
    except UserInputError:  # the preset's own run says it
        return lambda cell_id: None

    def done(cell_id: str) -> CellRecord | None:
        try:
            return store.record(cell_id) if store.has(cell_id) else None
        except UserInputError:
            return None

    return done


def _announcement(suite: Suite) -> str:
    """How many cells are left and how long they take."""
    from bench.matrix.cells import expand
    from bench.models.bridge import resolve_device
    from bench.models.load import model_digest
    from bench.plugins import install

    left, finished = [], []
    for name, matrix in suite.matrices.items():
        finished_cell = _done_cells(suite.directory / name)
        install(matrix.plugins)
        for cell in expand(matrix, model_digest, resolve_device):
            record = finished_cell(cell.id)
            if record is None:
                left.append(cell)
            else:
                finished.append(record)
    done = f"{len(finished)} cells are done already; " if finished else ""
    takes = f", which takes {in_words(estimated_seconds(left, finished))}" if left else ""
    return (
        f"{suite.name}: {len(suite.matrices)} presets. {done}{len(left)} cells to compute{takes}."
    )
