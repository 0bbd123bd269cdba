"""Induction: a list of words comes again and again, and goes on as it did before.

The behaviour is that of Olsson et al., 'In-context Learning and Induction Heads' (2022).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tasks.task import PromptPair, casts

TITLE = "Words:"
WORDS = (
    "apple", "table", "river", "stone", "bread", "chair", "cloud", "horse", "light", "music",
    "paper", "plant", "queen", "smoke", "sugar", "tiger", "train", "water", "wheel", "window",
    "bridge", "butter", "candle", "castle", "circle", "doctor", "flower", "forest", "garden",
    "hammer", "island", "jacket", "kitchen", "ladder", "market", "mirror", "needle", "orange",
    "pencil", "pepper", "rabbit", "school", "silver", "summer", "ticket", "valley", "winter",
    "yellow", "camera", "dragon", "engine", "finger", "guitar", "honey", "lemon", "ocean",
)  # fmt: skip


@dataclass(frozen=True)
class Induction:
    """Which word follows: the one that did in the list before (answer), or another of it (foil)?

    Entities are words; a list of five stands there twice, and begins once more. In the corrupted
    prompt answer and foil change places in the list, which reverses the task. The shifted split
    begins its list elsewhere, so that the words come again after three tokens instead of five.
    """

    name: ClassVar[str] = "induction"

    def entities(self) -> Sequence[str]:
        """Return the words."""
        return WORDS

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair whose lists are one word throughout."""
        return self._pair(split, (entity,) * 5)

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield one pair for every answer and foil, balanced over both."""
        for words in casts(entities, 5, seed):
            yield self._pair(split, words)

    def _pair(self, split: str, words: Sequence[str]) -> PromptPair:
        answer, foil, between, *again = words

        def prompt(answer: str, foil: str) -> str:
            if split == "shifted":
                listed = [foil, between, *again, answer]
            else:
                listed = [*again, answer, between, foil]
            return " ".join([TITLE, *listed, *listed, *again])

        return PromptPair(
            clean=prompt(answer, foil),
            corrupted=prompt(foil, answer),
            answer=f" {answer}",
            foil=f" {foil}",
            entity=answer,
        )
