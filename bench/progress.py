"""Progress on the terminal: what is being computed, what is done, how much time is left."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.cells import PlannedCell
from bench.estimate import in_words
from bench.records import CellRecord
from bench.show import harmless


class TerminalProgress:
    """A bar over the cells that are left, and a line for every one that is finished."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            speed_estimate_period=3600,
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
            self.console.print(sentence, style="yellow", markup=False, soft_wrap=True)

    def planned(self, cells: list[PlannedCell], done: int, seconds: float | None) -> None:
        """Opens the bar."""
        known = f"{done} cells are done already and stay as they are; " if done else ""
        estimate = f", which takes {in_words(seconds)}" if cells else ""
        self.console.print(f"{known}{len(cells)} cells to compute{estimate}.")
        if cells:
            self.task = self.bar.add_task("", total=len(cells))

    def loading(self, model: str) -> None:
        """Names the model."""
        self._describe(f"loading {model}")

    def starting(self, cell: PlannedCell) -> None:
        """Names the cell."""
        self._describe(_name(cell))

    def finished(self, cell: PlannedCell, record: CellRecord) -> None:
        """Adds a line, and moves the bar on."""
        if record.error is None:
            seconds = record.seconds
            outcome = f"[green]done[/green] in {seconds:.1f} s"
        else:
            first = (record.error.message.splitlines() or [record.error.kind])[0]
            outcome = f"[red]failed[/red]: {escape(harmless(first))}"
        self.console.print(f"  {escape(_name(cell))}  {outcome}")
        if self.task is not None:
            self.bar.advance(self.task)

    def _describe(self, text: str) -> None:
        if self.task is not None:
            self.bar.update(self.task, description=escape(text))


def _name(cell: PlannedCell) -> str:
    draw = f" draw {cell.method.method.draw}" if hasattr(cell.method.method, "draw") else ""
    varied = "".join(f" {name}={value:g}" for name, value in cell.varied.items())
    return f"{cell.model.name} {cell.task.label} {cell.method.label}{draw}{varied} seed {cell.seed}"
