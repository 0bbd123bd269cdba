"""How far a run is: cells done, running and failed, and the time that is left."""

from __future__ import annotations

from collections.abc import Sequence

from bench.execution.work import Counting
from bench.matrix.cells import PlannedCell
from bench.words import in_words


class Tally:
    """Counts the cells of a run. Times are seconds of one clock, whichever.

    What is left is estimated by rows of a forward (`work`) at the pace of the cells that
    are done since the start, so that it knows how many workers there are.
    """

    def __init__(self, cells: Sequence[PlannedCell], now: float) -> None:
        self.start = now
        count = Counting()
        self.rows = {cell.id: count(cell).cost for cell in cells}
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

    def in_words(self, now: float) -> str:
        """`12 of 90 done, 1 failed, 2 running, about 5 min left`."""
        parts = [f"{self.done} of {self.total} done"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{len(self.running)} running"] if self.running else []
        left = self.seconds_left(now)
        if left is not None and self.done + self.failed < self.total:
            parts.append(f"{in_words(left)} left")
        return ", ".join(parts)
