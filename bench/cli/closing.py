"""How commands end: the last lines of a run, and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from bench.harmless import harmless
from bench.words import counted
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from bench.cli.suite import Ended
    from bench.execution.run import Outcome
    from bench.matrix.suite import Suite

FAILED_CELLS = 1
"""Exit code when cells failed for another reason than the next."""
USER_ERROR = 2
"""Exit code of a mistake in the input, in the matrix or in a cell."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
MOST_REASONS = 10
"""Why cells failed, in the last lines; `status` has all."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C in the block ends the command, and is said to have lost nothing."""
    try:
        yield
    except KeyboardInterrupt:
        print("Interrupted. Finished cells are stored; the same command goes on.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def what_was_done(outcome: Outcome) -> Iterator[str]:
    """A sentence on each thing that a leaderboard does not show: cells that were there, or are not.

    What was not asked for is what `--only` leaves out.
    """
    planned = len(outcome.store.planned or ())
    done = len(outcome.known) + len(outcome.reused) + len(outcome.computed)
    left_out = planned - done - len(outcome.failed)
    if outcome.reused:
        were = counted(len(outcome.reused), "finished cell was", "finished cells were")
        yield f"{were} taken over, from another run or under another name."
    elif not outcome.computed and not outcome.failed:
        cell = "Every cell of this matrix" if not left_out else "Every cell that --only names"
        yield f"{cell} was done before: nothing was computed."
    if left_out:
        others = counted(left_out, "other cell of the matrix is", "other cells of the matrix are")
        yield f"{others} not done: --only left {'it' if left_out == 1 else 'them'} out."


def close_run(outcome: Outcome, console: Console) -> int:
    """Prints which cells failed and how to see them; gives the exit code."""
    if not outcome.failed:
        return 0
    console.print(f"{counted(len(outcome.failed), 'cell')} failed:", style="red")
    reasons: dict[str, list[str]] = {}
    for record in outcome.failed:
        assert record.error is not None
        reasons.setdefault(record.error.line, []).append(record.id)
    for reason, ids in list(reasons.items())[:MOST_REASONS]:
        others = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        console.print(f"  {ids[0]}{others}: {harmless(reason)}", markup=False, soft_wrap=True)
    if len(reasons) > MOST_REASONS:
        console.print(f"  and {counted(len(reasons) - MOST_REASONS, 'further reason')}")
    directory = harmless(str(outcome.store.directory))
    console.print(
        f"All of them: python -m bench status {directory}. One with its log: python -m bench show "
        f"CELL --results {directory}. The same command tries them again; --keep-failed leaves "
        "them.",
        markup=False,
        soft_wrap=True,
    )
    own = {kind.__name__ for kind in _subclasses(UserInputError)}
    ours = all(record.error and record.error.kind in own for record in outcome.failed)
    return USER_ERROR if ours else FAILED_CELLS


def close_suite(suite: Suite, ended: Ended, console: Console) -> int:
    """Prints in which presets cells failed, and which could not be run; gives the exit code."""
    lines = [
        f"{name}: {counted(count, 'cell')} failed: python -m bench status {suite.directory / name}"
        for name, count in ended.failed.items()
    ]
    lines += [f"{name}: could not be run; its error stands above." for name in ended.broken]
    for line in lines:
        console.print(harmless(line), style="red", markup=False, soft_wrap=True, highlight=False)
    return USER_ERROR if ended.broken else FAILED_CELLS if ended.failed else 0


def _subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(_subclasses(child) for child in kind.__subclasses__()))
