"""Greater-than: a war ends later than it began.

The prompt is that of Hanna, Liu and Variengien, 'How does GPT-2 compute greater-than?' (NeurIPS
2023). There a year is two tokens and its last two digits are compared; here one digit is one token,
and the first of the last two digits is compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.task import PromptPair

TEMPLATE = "The {event} lasted from the year {year} to the year {century}"
SHIFTED = "The {event} that began in the year {year} ended in {century}"
EVENTS = (
    "war", "campaign", "conflict", "project", "journey", "trial", "siege", "strike", "dispute",
    "program", "reign", "voyage", "study", "revolt", "trip", "marriage", "search", "debate",
)  # fmt: skip
CENTURY = "17"
DECADES = range(2, 9)
EARLIEST = f"{CENTURY}01"
"""The year of every corrupted prompt: any decade may follow it."""


@dataclass(frozen=True)
class GreaterThan:
    """Which decade follows: a later one than that of the first year (answer), or an earlier (foil)?

    Entities are years of one century. The corrupted prompt begins in its first year, after which
    the foil is as good as the answer. The next token is a digit, without a space: tokenizers that
    take several digits together (that of GPT-2) cannot be asked.
    """

    name: ClassVar[str] = "greater_than"

    def entities(self) -> Sequence[str]:
        """Return the years, the decades in turn."""
        return tuple(f"{CENTURY}{decade}{year}" for year in range(1, 10) for decade in DECADES)

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair whose answer and foil are the decade of `entity`."""
        return self._pair(split, entity, EVENTS[0], int(entity[2]), int(entity[2]))

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield every year with every event, a round of years at a time."""
        draw = Random(f"greater_than/{seed}")
        years = draw.sample(list(entities), len(entities))
        events = draw.sample(EVENTS, len(EVENTS))
        if len(years) < 2:
            return
        for turn in range(len(events)):
            for index, year in enumerate(years):
                decade = int(year[2])
                later, earlier = draw.randint(decade + 1, 9), draw.randint(0, decade - 1)
                event = events[(turn + index) % len(events)]
                yield self._pair(split, year, event, later, earlier)

    def _pair(self, split: str, year: str, event: str, answer: int, foil: int) -> PromptPair:
        template = SHIFTED if split == "shifted" else TEMPLATE
        return PromptPair(
            clean=template.format(event=event, year=year, century=CENTURY),
            corrupted=template.format(event=event, year=EARLIEST, century=CENTURY),
            answer=str(answer),
            foil=str(foil),
            entity=year,
        )
