"""Recall of capitals without any conflict: the saturated control of `ccc`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tasks.ccc import asked_capitals
from tasks.task import PromptPair, casts

TEMPLATE = "Q: What is the capital of {country}? A: The capital of {country} is"
SHIFTED = "Q: Name the capital city of {country}. A: The capital of {country} is"


@dataclass(frozen=True)
class Capital:
    """Which capital follows: that of the country (answer), or that of another one (foil)?

    Entities are countries. The corrupted prompt asks about the country of the foil, which reverses
    the task.
    """

    name: ClassVar[str] = "capital"

    def entities(self) -> Sequence[str]:
        """Return the countries."""
        return tuple(asked_capitals())

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair whose foil is the answer."""
        return self._pair(split, entity, entity)

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield one pair for every country and wrong capital, balanced over both."""
        for country, other in casts(entities, 2, seed):
            yield self._pair(split, country, other)

    def _pair(self, split: str, country: str, other: str) -> PromptPair:
        template = SHIFTED if split == "shifted" else TEMPLATE
        return PromptPair(
            clean=template.format(country=country),
            corrupted=template.format(country=other),
            answer=f" {asked_capitals()[country]}",
            foil=f" {asked_capitals()[other]}",
            entity=country,
        )
