"""Succession: four members of a series, and which comes next.

The prompts follow Gould et al., 'Successor Heads: Recurring, Interpretable Attention Heads in the
Wild' (ICLR 2024).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from string import ascii_uppercase
from typing import ClassVar

from tasks.task import PromptPair

SHOWN = 4
SERIES = {
    "letters": tuple(ascii_uppercase),
    "days": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "months": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September",
        "October", "November", "December",
    ),
    "numbers": (
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
        "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
        "twenty",
    ),
}  # fmt: skip
RETURNING = ("days", "months")
"""Series that begin again after their last member."""


@cache
def _runs() -> dict[str, tuple[str, str]]:
    """Return run ("A, B, C, D") to its series and the member after it."""
    runs = {}
    for kind, members in SERIES.items():
        circle = members + members[:SHOWN] if kind in RETURNING else members
        for start in range(len(circle) - SHOWN):
            run = ", ".join(circle[start : start + SHOWN])
            runs[run] = (kind, circle[start + SHOWN])
    return runs


@dataclass(frozen=True)
class Succession:
    """What follows: the next member of the series (answer), or what follows another run (foil)?

    Entities are runs of four members: letters, days, months and numbers. The corrupted prompt is
    the other run, of the same series, which reverses the task. No run of the held-out splits and no
    member after it is asked about in training, though runs overlap.
    """

    name: ClassVar[str] = "succession"

    def entities(self) -> Sequence[str]:
        """Return the runs."""
        return tuple(_runs())

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair of a run with itself."""
        return self._pair(split, entity, entity)

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield every run with every other one of its series, a round of runs at a time."""
        draw = Random(f"succession/{seed}")
        order = draw.sample(list(entities), len(entities))
        others = {
            run: draw.sample(near, len(near))
            for run in order
            for near in [[o for o in order if o != run and _runs()[o][0] == _runs()[run][0]]]
        }
        for turn in range(len(order)):
            for run in order:
                if turn < len(others[run]):
                    yield self._pair(split, run, others[run][turn])

    def _pair(self, split: str, run: str, other: str) -> PromptPair:
        return PromptPair(
            clean=_prompt(split, run),
            corrupted=_prompt(split, other),
            answer=f" {_runs()[run][1]}",
            foil=f" {_runs()[other][1]}",
            entity=run,
        )


def _prompt(split: str, run: str) -> str:
    """The run, or in the shifted split its last three members, as many tokens long."""
    return f"Here: {run.split(', ', 1)[1]}," if split == "shifted" else f"{run},"
