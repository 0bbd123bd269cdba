"""Arithmetic: the sum of two digits, after one example."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.task import PromptPair, casts

TEMPLATE = "{} + {} = {}\n{} + {} = "
SHIFTED = "{} + {} is {}\n{} + {} is "
LARGEST = 9


@dataclass(frozen=True)
class Arithmetic:
    """Which digit follows: the sum (answer), or that of another addition (foil)?

    Entities are additions, whatever the order of their digits. The corrupted prompt asks for the
    other one, which reverses the task.

    Args:
        spaced: whether the space before the sum is part of the next token (GPT-2) instead of the
            prompt (tokenizers for which a digit is always a token of its own: SmolLM2, Llama, Qwen,
            Gemma).
    """

    name: ClassVar[str] = "arithmetic"
    spaced: bool = False

    def entities(self) -> Sequence[str]:
        """Return the additions, the smaller digit first."""
        return tuple(
            f"{one} + {two}" for one in range(1, 5) for two in range(one, LARGEST + 1 - one)
        )

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair that has this addition everywhere."""
        return self._pair(split, [_digits(entity)] * 3, entity)

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield one pair for every addition and every other one with another sum."""
        draw = Random(f"arithmetic/{seed}")
        for asked, other, example in casts(entities, 3, seed):
            digits = [draw.sample(_digits(entity), 2) for entity in (asked, other, example)]
            yield self._pair(split, digits, asked)

    def _pair(self, split: str, digits: Sequence[Sequence[int]], entity: str) -> PromptPair:
        asked, other, example = digits
        template = SHIFTED if split == "shifted" else TEMPLATE
        clean = template.format(*example, sum(example), *asked)
        corrupted = template.format(*example, sum(example), *other)
        space = " " if self.spaced else ""
        return PromptPair(
            clean=clean.removesuffix(space),
            corrupted=corrupted.removesuffix(space),
            answer=f"{space}{sum(asked)}",
            foil=f"{space}{sum(other)}",
            entity=entity,
        )


def _digits(entity: str) -> list[int]:
    return [int(digit) for digit in entity.split(" + ")]
