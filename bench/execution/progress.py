"""Progress of a run: cells done, running and failed, on a terminal, in a log file or a notebook."""

from __future__ import annotations

import html
import sys
import time
import warnings
from collections.abc import Iterator
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


class CellProgress(Watcher):
    """Counts the cells of a run; what is shown of them is up to who watches.

    What is left is estimated by rows (`bench.execution.estimate`) at the pace of the cells that are
    done since the start, so that it knows how many workers there are.
    """

    def __init__(self) -> None:
        self.plan = ""
        self.start = time.monotonic()
        self.rows: dict[str, float] = {}
        self.rows_done = self.rows_left = 0.0
        self.done = self.failed = 0
        self.running: set[str] = set()

    def show(self, now: str) -> None:
        """Shows the counts, and what happens now."""

    def planned(self, cells: list[PlannedCell], done: int, seconds: float | None) -> None:
        """Starts to count."""
        stay = (
            "cell is done already and stays as it is",
            "cells are done already and stay as they are",
        )
        known = f"{counted(done, *stay)}; " if done else ""
        takes = f", which takes {in_words(seconds)}" if cells else ""
        self.plan = f"{known}{counted(len(cells), 'cell')} to compute{takes}."
        self.start, self.rows = time.monotonic(), estimated_rows(cells)
        self.rows_left = sum(self.rows.values())
        self.show(LOOKING if cells else "")

    def loading(self, model: str) -> None:
        """Names the model."""
        self.show(f"loading {visible(model)}")

    def starting(self, cell: PlannedCell) -> None:
        """Names the cell, or one of those that are running."""
        self.running.add(cell.id)
        self.show(_name(cell))

    def interrupted(self, cell: PlannedCell, why: str) -> None:
        """Says that another worker will compute it."""
        self.running.discard(cell.id)
        self.note(f"{_name(cell)} waits again: {why}")

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        """Counts it."""
        self.running.discard(cell.id)
        self.rows_left -= self.rows[cell.id]
        if record.error is not None:
            self.failed += 1
        else:
            self.done += 1
            self.rows_done += self.rows[cell.id]

    def in_words(self, ended: bool = False) -> str:
        """`12 of 90 done, 1 failed, 2 running, about 5 min left`; at the end how long it took."""
        parts = [f"{self.done} of {len(self.rows)} done"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{len(self.running)} running"] if self.running else []
        took = time.monotonic() - self.start
        if ended:
            return f"{', '.join(parts)} in {in_words(took)}"
        if self.rows_done and self.done + self.failed < len(self.rows):
            parts.append(f"{in_words(took / self.rows_done * max(0.0, self.rows_left))} left")
        return ", ".join(parts)


class TerminalProgress(CellProgress):
    """A line for every cell that is finished, and how far the run is.

    On a terminal that stands in a bar below the lines; anywhere else at the end of each line, so
    that a log file has no control characters and nothing twice.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
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

    def note(self, sentence: str) -> None:
        """Prints it."""
        self.console.print(visible(sentence), style="yellow", markup=False, soft_wrap=True)

    def show(self, now: str) -> None:
        """Opens the bar, or describes what it stands for."""
        if now == LOOKING:
            self.task = self.bar.add_task(now, total=len(self.rows), counts="")
        elif self.task is not None:
            self.bar.update(self.task, description=escape(now), counts=self.in_words())

    def planned(self, cells: list[PlannedCell], done: int, seconds: float | None) -> None:
        """Opens the bar below what is to be done."""
        super().planned(cells, done, seconds)
        self.console.print(self.plan)

    def loading(self, model: str) -> None:
        """Names the model, in a log file on a line."""
        super().loading(model)
        if not self.console.is_terminal:
            self.console.print(f"  loading {visible(model)}", markup=False, soft_wrap=True)

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        """Adds a line, and moves the bar on."""
        super().finished(cell, record)
        line = f"  {escape(_name(cell))}  [green]done[/green] in {record.seconds:.1f} s"
        if record.error is not None:
            line = (
                f"  {escape(_name(cell))}  [red]failed[/red]: {escape(visible(record.error.line))}"
            )
        if not self.console.is_terminal:
            line += f"  ({self.in_words()})"
        self.console.print(line, soft_wrap=True, highlight=False)
        if self.task is not None:
            self.bar.update(self.task, advance=1, counts=self.in_words())


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


class NotebookProgress(CellProgress):
    """Writes the state of a run over what a display showed before, and below it what went wrong.

    What is kept in the notebook is the last state: no line a cell, and the same as plain text.

    Args:
        handle: of IPython's `display`, with `update`.
    """

    def __init__(self, handle: Any) -> None:
        super().__init__()
        self.handle = handle
        self.notes: dict[str, int] = {}

    def note(self, sentence: str) -> None:
        """Counts it among what is shown."""
        self.notes[sentence] = self.notes.get(sentence, 0) + 1
        self.show("")

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        """Moves the bar on, and says why a cell failed."""
        super().finished(cell, record)
        if record.error is not None:
            self.note(f"failed: {cell.method.label}: {record.error.line}")
        self.show("")

    def close(self) -> None:
        """Shows the end, also of a run that was interrupted: nothing is running any more."""
        self.running.clear()
        self.show("", ended=True)

    def show(self, now: str, ended: bool = False) -> None:
        """Shows the counts and all notes."""
        total, lines, bar = len(self.rows), [], ""
        if not (ended and total):
            lines.append(self.plan)
        if total:
            bar = f'<progress value="{self.done + self.failed}" max="{total}"></progress> '
            lines.append(f"{self.in_words(ended)}  {now}".strip())
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
