"""A task of the user's own, or a benchmark's: pairs of prompts in a JSONL or CSV file."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import ClassVar, Literal

from tasks.rows import Row, read_rows
from tasks.task import SPLITS, PromptPair


@dataclass(frozen=True)
class FromFile:
    """Pairs from a file with the columns clean, corrupted, answer, foil; also split and entity.

    Without splits in the file, entities are divided as those of every task, and there is no shifted
    split. Without entities every row is its own. Rows that share a clean or a corrupted prompt, or
    are each other's reverse, are one entity whatever the file says, so that no prompt of test
    stands in train.
    """

    path: str = field(repr=False)
    """A .jsonl or .csv file."""
    lengths: Literal["one", "several"] = "one"
    """Prompts of the most frequent length only, or of all lengths."""
    counterfactual: str | None = None
    """Which of the counterfactuals of a row of the benchmark MIB is the corrupted prompt
    (`tasks.benchmark_rows`); needed where it has several."""
    digest: str = field(init=False, repr=False, default="")
    """sha256 of the file."""

    name: ClassVar[str] = "file"

    def __post_init__(self) -> None:
        """Read the file.

        Raises `UserInputError` for a file that cannot be read or has rows that are no pairs of
        prompts: names the rows, and what would be right.
        """
        digest, rows = read_rows(Path(os.path.expanduser(self.path)), self.counterfactual)
        object.__setattr__(self, "digest", digest)
        object.__setattr__(self, "_rows", rows)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Return the rows of the file."""
        rows: tuple[Row, ...] = self._rows  # type: ignore[attr-defined]
        return rows

    @property
    def title(self) -> str:
        """Return what the task is called in tables."""
        return Path(self.path).name

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the splits that the file has; those of a file without any are train and test."""
        own = {row.split for row in self.rows}
        return SPLITS[:2] if own == {None} else tuple(name for name in SPLITS if name in own)

    @property
    def divided(self) -> bool:
        """Return whether the file says itself which rows are in which split."""
        return self.rows[0].split is not None

    @cached_property
    def _of_entity(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        for row, first in zip(
            self.rows, _first_related([row.pair for row in self.rows]), strict=True
        ):
            found.setdefault(self.rows[first].pair.entity, []).append(row)
        return found

    def entities(self) -> Sequence[str]:
        """Return the entities, in the order of the file."""
        return tuple(self._of_entity)

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the first row about the entity, of the split where it has one there."""
        rows = self._of_entity[entity]
        return next((row.pair for row in rows if row.split == split), rows[0].pair)

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield the rows of a split over the entities, a round of entities at a time."""
        draw = Random(f"file/{seed}")
        wanted = (split, None) if split in self.splits else ()
        queues = [
            draw.sample(rows, len(rows))
            for entity in draw.sample(list(entities), len(entities))
            for rows in [[row.pair for row in self._of_entity[entity] if row.split in wanted]]
        ]
        for turn in range(max(map(len, queues), default=0)):
            yield from (queue[turn] for queue in queues if turn < len(queue))


def _first_related(pairs: Sequence[PromptPair]) -> list[int]:
    """The first pair that each one is related to, over however many others: connected components.

    Pairs are related by a common entity, clean prompt or corrupted prompt, and reversed pairs.
    """
    first = list(range(len(pairs)))

    def root(place: int) -> int:
        while first[place] != place:
            first[place] = first[first[place]]
            place = first[place]
        return place

    seen: dict[object, int] = {}
    for place, pair in enumerate(pairs):
        for key in (
            ("entity", pair.entity),
            ("clean", pair.clean),
            ("corrupted", pair.corrupted),
            frozenset((pair.clean, pair.corrupted)),
        ):
            one, other = sorted((root(place), root(seen.setdefault(key, place))))
            first[other] = one
    return [root(place) for place in range(len(pairs))]
