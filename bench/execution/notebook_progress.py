"""Progress in a notebook: one line with a bar, which is written over as cells finish."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.execution.cell_runner import Watcher
from bench.execution.progress import CellCounts
from bench.matrix.cells import PlannedCell
from bench.store.records import CellRecord


@contextmanager
def progress() -> Iterator[Watcher]:
    """Who is told how a run goes on: a bar in a notebook, nobody anywhere else."""
    if "IPython" in sys.modules:
        from IPython.core.getipython import get_ipython

        if getattr(get_ipython(), "kernel", None) is not None:
            from IPython.display import HTML, display

            yield NotebookProgress(display(HTML(""), display_id=True), HTML)
            return
    yield Watcher()


class NotebookProgress(Watcher):
    """Writes the state of a run over what a display showed before.

    Args:
        handle: of IPython's `display`, with `update`.
        kind: makes what it shows of HTML.
    """

    def __init__(self, handle: Any, kind: Any) -> None:
        self.handle, self.kind = handle, kind
        self.counts = CellCounts([], time.monotonic())

    def planned(self, cells: list[PlannedCell], done: int, seconds: float | None) -> None:
        """Starts to count."""
        self.counts = CellCounts(cells, time.monotonic())
        if cells:
            self._show("")

    def loading(self, model: str) -> None:
        """Names the model."""
        self._show(f"loading {model}")

    def starting(self, cell: PlannedCell) -> None:
        """Names the cell."""
        self.counts.starts(cell)
        self._show(f"{cell.task.label} {cell.method.label}")

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        """Moves the bar on."""
        self.counts.ends(cell, failed=record.error is not None)
        self._show("")

    def _show(self, now: str) -> None:
        counts = self.counts
        ended = counts.done + counts.failed
        words = html.escape(f"{counts.in_words(time.monotonic())}  {now}".strip())
        bar = f'<progress value="{ended}" max="{max(counts.total, 1)}"></progress>'
        self.handle.update(self.kind(f"{bar} {words}"))
