"""Greater-than: a war ends later than it began.

The prompt is that of Hanna, Liu and Variengien, 'How does GPT-2 compute greater-than?' (NeurIPS
2023). There a year is two tokens and its last two digits are compared (`digits=2`); where one digit
is one token, the first of the last two digits is compared.
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
EARLIEST = 1
"""The year of every corrupted prompt: any later one, and any decade, may follow it."""
LAST = 99


@dataclass(frozen=True)
class GreaterThan:
    """Which year follows: a later one than the first year (answer), or an earlier one (foil)?

    Entities are years of one century. The corrupted prompt begins in its first year, after which
    the foil is as good as the answer.

    Args:
        digits: how many of a year's last two digits are one token, without a space: 1 where every
            digit is (SmolLM2, Llama, Qwen, Gemma), and decades are compared; 2 for GPT-2, and years
            are.
    """

    name: ClassVar[str] = "greater_than"
    digits: int = 1

    def __post_init__(self) -> None:
        if self.digits not in (1, 2):
            raise ValueError(f"digits is 1 or 2, not {self.digits}")

    def entities(self) -> Sequence[str]:
        """Return the years, the decades in turn."""
        return tuple(f"{CENTURY}{decade}{year}" for year in range(1, 10) for decade in DECADES)

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair whose answer and foil are those of `entity` itself."""
        return self._pair(split, entity, EVENTS[0], self._compared(entity), self._compared(entity))

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield every year with every event, a round of years at a time."""
        draw = Random(f"greater_than/{seed}")
        years = draw.sample(list(entities), len(entities))
        events = draw.sample(EVENTS, len(EVENTS))
        if len(years) < 2:
            return
        earliest, last = (EARLIEST, LAST) if self.digits == 2 else (EARLIEST // 10, LAST // 10)
        for turn in range(len(events)):
            for index, year in enumerate(years):
                first = self._compared(year)
                later, earlier = draw.randint(first + 1, last), draw.randint(earliest, first - 1)
                event = events[(turn + index) % len(events)]
                yield self._pair(split, year, event, later, earlier)

    def _compared(self, year: str) -> int:
        """The digits of a year that the next token is compared with."""
        return int(year[2 : 2 + self.digits])

    def _pair(self, split: str, year: str, event: str, answer: int, foil: int) -> PromptPair:
        template = SHIFTED if split == "shifted" else TEMPLATE
        corrupted = f"{CENTURY}{EARLIEST:02d}"
        return PromptPair(
            clean=template.format(event=event, year=year, century=CENTURY),
            corrupted=template.format(event=event, year=corrupted, century=CENTURY),
            answer=f"{answer:0{self.digits}d}",
            foil=f"{foil:0{self.digits}d}",
            entity=year,
        )
