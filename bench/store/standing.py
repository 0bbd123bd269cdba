"""How the cells of a matrix stand: done, failed, missing, or there under another name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.store.records import CellRecord, content_of
from bench.store.upkeep import Survey


@dataclass(frozen=True)
class Standing:
    """The planned cells of a run beside those that it holds.

    A cell is taken over by what it computes, whatever it is called: a finished cell with the
    content of one that is not done is no left-over, though it bears the name of an earlier matrix.

    Attributes:
        cells: ids of the planned ones.
        done: ids of those that are done.
        failed: records of those that failed.
        known_again: ids of planned cells that are not done and lie here under another name.
        stale: ids of finished and failed cells that the matrix has no use for.
    """

    cells: Sequence[str]
    done: list[str]
    failed: list[CellRecord]
    known_again: list[str]
    stale: list[str]

    @staticmethod
    def of(planned: Sequence[str], found: Survey) -> Standing:
        """How planned cells stand in what a survey found."""
        done, failed = found.having("done"), found.having("failed")
        left = {content_of(name): name for name in planned if name not in done}
        others = sorted(set(found.cells).difference(planned))
        wanted = {name for name in others if name in done and content_of(name) in left}
        return Standing(
            planned,
            [name for name in planned if name in done],
            [found.cells[name] for name in planned if name in failed],
            sorted({left[content_of(name)] for name in wanted}),
            [name for name in others if name not in wanted],
        )

    @property
    def missing(self) -> int:
        """How many are neither done nor failed under their own name."""
        return len(self.cells) - len(self.done) - len(self.failed)
