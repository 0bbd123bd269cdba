"""Antonyms from two examples.

Source of the form: Todd et al., 'Function Vectors in Large Language Models' (ICLR 2024).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.task import PromptPair, casts

TEMPLATE = ("The opposite of {} is {}. ", "The opposite of {} is {}. ", "The opposite of {} is")
SHIFTED = ("If not {}, then {}. ", "If not {}, then {}. ", "If not {}, then")
ANTONYMS = {
    "hot": "cold", "big": "small", "up": "down", "fast": "slow", "old": "new", "high": "low",
    "hard": "soft", "left": "right", "day": "night", "good": "bad", "happy": "sad",
    "open": "closed", "rich": "poor", "strong": "weak", "light": "dark", "early": "late",
    "long": "short", "wet": "dry", "full": "empty", "in": "out", "on": "off", "true": "false",
    "black": "white", "clean": "dirty", "deep": "shallow", "wide": "narrow", "thick": "thin",
    "loud": "quiet", "sweet": "sour", "sharp": "dull", "smooth": "rough", "safe": "dangerous",
    "front": "back", "top": "bottom", "first": "last", "inside": "outside", "above": "below",
    "before": "after", "love": "hate", "win": "lose", "buy": "sell", "push": "pull",
    "positive": "negative", "male": "female", "alive": "dead", "war": "peace", "summer": "winter",
    "north": "south", "east": "west", "beginning": "end", "success": "failure",
}  # fmt: skip


@dataclass(frozen=True)
class Antonym:
    """Which word follows: the opposite of the one asked about (answer), or that word again (foil)?

    Entities are pairs of opposites, called by one of them and asked about either way; two more of
    the same split are the examples. The corrupted prompt asks about the opposite, which reverses
    the task.
    """

    name: ClassVar[str] = "antonym"

    def entities(self) -> Sequence[str]:
        """Return one word of every pair."""
        return tuple(ANTONYMS)

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair that has the word and its opposite everywhere."""
        return self._pair(split, [(entity, ANTONYMS[entity])] * 3, entity)

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield one pair for every pair of opposites with every other one as an example."""
        draw = Random(f"antonym/{seed}")
        for words in casts(entities, 3, seed):
            opposites = [draw.sample((word, ANTONYMS[word]), 2) for word in words]
            yield self._pair(split, opposites, words[0])

    def _pair(self, split: str, opposites: Sequence[Sequence[str]], entity: str) -> PromptPair:
        (asked, wanted), *examples = opposites
        *shots, question = SHIFTED if split == "shifted" else TEMPLATE
        before = "".join(
            shot.format(*example) for shot, example in zip(shots, examples, strict=True)
        )
        return PromptPair(
            clean=before + question.format(asked),
            corrupted=before + question.format(wanted),
            answer=f" {wanted}",
            foil=f" {asked}",
            entity=entity,
        )
