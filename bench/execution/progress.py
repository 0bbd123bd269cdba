"""Progress of a run: a live bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from bench.execution.tally import Tally
from bench.matrix.cells import PlannedCell
from bench.store.records import CellRecord
from bench.words import counted, harmless, in_words


class TerminalProgress:
    """A line for every cell that is finished, and how far the run is.

    On a terminal that stands in a bar below the lines; anywhere else at the end of each line, so
    that a log file has no control characters and nothing twice.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.tally = Tally([], time.monotonic())
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            _State(self),
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
            self.console.print(harmless(sentence), style="yellow", markup=False, soft_wrap=True)

    def planned(self, cells: list[PlannedCell], done: int, seconds: float | None) -> None:
        """Opens the bar."""
        there = counted(
            done,
            "cell is done already and stays as it is",
            "cells are done already and stay as they are",
        )
        known = f"{there}; " if done else ""
        estimate = f", which takes {in_words(seconds)}" if cells else ""
        self.console.print(f"{known}{counted(len(cells), 'cell')} to compute{estimate}.")
        self.tally = Tally(cells, time.monotonic())
        if cells:
            self.task = self.bar.add_task("", total=len(cells))

    def loading(self, model: str) -> None:
        """Names the model."""
        self._describe(f"loading {harmless(model)}")

    def starting(self, cell: PlannedCell) -> None:
        """Names the cell, or one of those that are running."""
        self.tally.starts(cell)
        self._describe(_name(cell))

    def interrupted(self, cell: PlannedCell, why: str) -> None:
        """Says that another worker will compute it."""
        self.tally.waits(cell)
        self._line(f"  {escape(_name(cell))}  waits again: {escape(harmless(why))}")

    def refused(self, why: str) -> None:
        """Names who cannot take part, and why; the others go on."""
        self.console.print(harmless(why), style="yellow", markup=False, soft_wrap=True)

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        """Adds a line, and moves the bar on."""
        self.tally.ends(cell, failed=record.error is not None)
        if record.error is None:
            outcome = f"[green]done[/green] in {record.seconds:.1f} s"
        else:
            outcome = f"[red]failed[/red]: {escape(harmless(record.error.line))}"
        self._line(f"  {escape(_name(cell))}  {outcome}")
        if self.task is not None:
            self.bar.advance(self.task)

    def _line(self, text: str) -> None:
        if not self.console.is_terminal:
            text += f"  ({self.tally.in_words(time.monotonic())})"
        self.console.print(text, soft_wrap=True, highlight=False)

    def _describe(self, text: str) -> None:
        if self.task is not None:
            self.bar.update(self.task, description=escape(text))


class _State(ProgressColumn):
    """How far the run is, in words."""

    def __init__(self, progress: TerminalProgress) -> None:
        super().__init__()
        self.progress = progress

    def render(self, task: Task) -> Text:
        """Anew whenever the bar is drawn."""
        return Text(self.progress.tally.in_words(time.monotonic()))


def _name(cell: PlannedCell) -> str:
    draw = f" draw {cell.method.method.draw}" if hasattr(cell.method.method, "draw") else ""
    varied = "".join(f" {name}={value:g}" for name, value in cell.varied.items())
    words = (cell.model.name, cell.task.label, f"{cell.method.label}{draw}{varied}")
    return harmless(f"{' '.join(words)} seed {cell.seed}")
