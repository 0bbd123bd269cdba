"""Progress of a run: cells done, running and failed, on a terminal, in a log file or a notebook."""

from __future__ import annotations

import html
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.execution.cell_runner import Watcher
from bench.execution.estimate import estimated_rows
from bench.matrix.cells import PlannedCell
from bench.store.records import CellRecord
from bench.text import in_words
from tasks.text import counted, visible

MOST_NOTES = 10
"""Different things that went wrong, in a notebook; `status` has all."""

LOOKING = "looking at models and prompts"
"""What a run does before it loads a model."""


class CellCounts:
    """Counts the cells of a run. Times are seconds of one clock, whichever.

    What is left is estimated by rows (`bench.execution.estimate`) at the pace of the cells that are
    done since the start, so that it knows how many workers there are.
    """

    def __init__(self, cells: Sequence[PlannedCell], now: float) -> None:
        self.start = now
        self.rows = estimated_rows(cells)
        self.total = len(cells)
        self.rows_left = sum(self.rows.values())
        self.rows_done = 0.0
        self.done = self.failed = 0
        self.running: dict[str, PlannedCell] = {}

    def starts(self, cell: PlannedCell) -> None:
        """Somebody computes a cell."""
        self.running[cell.id] = cell

    def waits(self, cell: PlannedCell) -> None:
        """Nobody computes it any more."""
        self.running.pop(cell.id, None)

    def ends(self, cell: PlannedCell, failed: bool) -> None:
        """A cell is stored."""
        self.waits(cell)
        self.rows_left -= self.rows[cell.id]
        self.failed += failed
        if not failed:
            self.done += 1
            self.rows_done += self.rows[cell.id]

    def seconds_left(self, now: float) -> float | None:
        """About how long the rest takes; None while nothing is done."""
        if not self.rows_done:
            return None
        return (now - self.start) / self.rows_done * max(0.0, self.rows_left)

    def in_words(self, now: float, ended: bool = False) -> str:
        """`12 of 90 done, 1 failed, 2 running, about 5 min left`; at the end how long it took."""
        parts = [f"{self.done} of {self.total} done"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{len(self.running)} running"] if self.running else []
        if ended:
            return f"{', '.join(parts)} in {in_words(now - self.start)}"
        left = self.seconds_left(now)
        if left is not None and self.done + self.failed < self.total:
            parts.append(f"{in_words(left)} left")
        return ", ".join(parts)


class TerminalProgress(Watcher):
    """A line for every cell that is finished, and how far the run is.

    On a terminal that stands in a bar below the lines; anywhere else at the end of each line, so
    that a log file has no control characters and nothing twice.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.counts = CellCounts([], time.monotonic())
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> TerminalProgress:
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def set_aside(self, sentences: list[str]) -> None:
        """Names what was damaged and where it is now."""
        for sentence in sentences:
            self.console.print(visible(sentence), style="yellow", markup=False, soft_wrap=True)

    def planned(self, cells: list[PlannedCell], done: int, seconds: float | None) -> None:
        """Opens the bar."""
        self.console.print(_to_compute(cells, done, seconds))
        self.counts = CellCounts(cells, time.monotonic())
        if cells:
            self.task = self.bar.add_task(LOOKING, total=len(cells), counts="")

    def loading(self, model: str) -> None:
        """Names the model, in a log file on a line."""
        if not self.console.is_terminal:
            self.console.print(f"  loading {visible(model)}", markup=False, soft_wrap=True)
        self._describe(f"loading {visible(model)}")

    def starting(self, cell: PlannedCell) -> None:
        """Names the cell, or one of those that are running."""
        self.counts.starts(cell)
        self._describe(_name(cell))

    def interrupted(self, cell: PlannedCell, why: str) -> None:
        """Says that another worker will compute it."""
        self.counts.waits(cell)
        self._line(f"  {escape(_name(cell))}  waits again: {escape(visible(why))}")

    def refused(self, why: str) -> None:
        """Names who cannot take part, and why; the others go on."""
        self.console.print(visible(why), style="yellow", markup=False, soft_wrap=True)

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        """Adds a line, and moves the bar on."""
        self.counts.ends(cell, failed=record.error is not None)
        if record.error is None:
            outcome = f"[green]done[/green] in {record.seconds:.1f} s"
        else:
            outcome = f"[red]failed[/red]: {escape(visible(record.error.line))}"
        self._line(f"  {escape(_name(cell))}  {outcome}")
        if self.task is not None:
            self.bar.update(self.task, advance=1, counts=self._counts())

    def _line(self, text: str) -> None:
        if not self.console.is_terminal:
            text += f"  ({self._counts()})"
        self.console.print(text, soft_wrap=True, highlight=False)

    def _describe(self, text: str) -> None:
        if self.task is not None:
            self.bar.update(self.task, description=escape(text), counts=self._counts())

    def _counts(self) -> str:
        return self.counts.in_words(time.monotonic())


def _to_compute(cells: list[PlannedCell], done: int, seconds: float | None) -> str:
    there = counted(
        done,
        "cell is done already and stays as it is",
        "cells are done already and stay as they are",
    )
    known = f"{there}; " if done else ""
    estimate = f", which takes {in_words(seconds)}" if cells else ""
    return f"{known}{counted(len(cells), 'cell')} to compute{estimate}."


def _name(cell: PlannedCell) -> str:
    draw = f" draw {cell.method.method.draw}" if hasattr(cell.method.method, "draw") else ""
    varied = "".join(f" {name}={value:g}" for name, value in cell.varied.items())
    words = (cell.model_label, cell.task.label, f"{cell.method.label}{draw}{varied}")
    return visible(f"{' '.join(words)} seed {cell.seed}")


@contextmanager
def progress() -> Iterator[Watcher]:
    """Who is told how a run goes on: a bar in a notebook, nobody anywhere else."""
    if "IPython" in sys.modules:
        from IPython.core.getipython import get_ipython

        if getattr(get_ipython(), "kernel", None) is not None:
            from IPython.display import display

            with warnings.catch_warnings():  # that it has no bar of its own to show
                warnings.filterwarnings("ignore", message="IProgress")
                import_module("tqdm.auto")
            watcher = NotebookProgress(display({"text/plain": ""}, raw=True, display_id=True))
            try:
                yield watcher
            finally:
                watcher.close()
            return
    yield Watcher()


class NotebookProgress(Watcher):
    """Writes the state of a run over what a display showed before, and below it what went wrong.

    What is kept in the notebook is the last state: no line a cell, and the same as plain text.

    Args:
        handle: of IPython's `display`, with `update`.
    """

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.counts = CellCounts([], time.monotonic())
        self.plan = ""
        self.notes: dict[str, int] = {}

    def set_aside(self, sentences: list[str]) -> None:
        """Names what was damaged and where it is now."""
        for sentence in sentences:
            self._note(sentence)

    def planned(self, cells: list[PlannedCell], done: int, seconds: float | None) -> None:
        """Starts to count."""
        self.counts = CellCounts(cells, time.monotonic())
        self.plan = _to_compute(cells, done, seconds)
        self._show(LOOKING if cells else "")

    def loading(self, model: str) -> None:
        """Names the model."""
        self._show(f"loading {model}")

    def starting(self, cell: PlannedCell) -> None:
        """Names the cell, or one of those that are running."""
        self.counts.starts(cell)
        self._show(_name(cell))

    def interrupted(self, cell: PlannedCell, why: str) -> None:
        """Says that another worker will compute it."""
        self.counts.waits(cell)
        self._note(f"{_name(cell)} waits again: {why}")

    def refused(self, why: str) -> None:
        """Names who cannot take part, and why; the others go on."""
        self._note(why)

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        """Moves the bar on, and says why a cell failed."""
        self.counts.ends(cell, failed=record.error is not None)
        if record.error is not None:
            self._note(f"failed: {cell.method.label}: {record.error.line}")
        self._show()

    def close(self) -> None:
        """Shows the end, also of a run that was interrupted: nothing is running any more."""
        self.counts.running.clear()
        self._show(ended=True)

    def _note(self, sentence: str) -> None:
        self.notes[sentence] = self.notes.get(sentence, 0) + 1
        self._show()

    def _show(self, now: str = "", ended: bool = False) -> None:
        counts, lines, bar = self.counts, [], ""
        if not (ended and counts.total):
            lines.append(self.plan)
        if counts.total:
            value = counts.done + counts.failed
            bar = f'<progress value="{value}" max="{counts.total}"></progress> '
            lines.append(f"{counts.in_words(time.monotonic(), ended)}  {now}".strip())
        at_bar = len(lines) - 1
        lines += [
            note + (f" ({times} times)" if times > 1 else "")
            for note, times in [*self.notes.items()][:MOST_NOTES]
        ]
        if len(self.notes) > MOST_NOTES:
            lines.append(f"and {len(self.notes) - MOST_NOTES} more")
        seen = [visible(line) for line in lines]
        markup = [html.escape(line) for line in seen]
        markup[at_bar] = bar + markup[at_bar]
        data = {"text/plain": "\n".join(seen), "text/html": "<br>".join(markup)}
        self.handle.update(data, raw=True)
