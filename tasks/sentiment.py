"""Sentiment of a review: what was said before decides its verdict.

The prompt is a shorter form of the one in Tigges et al., 'Linear Representations of Sentiment in
Large Language Models' (2023).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tasks.task import PromptPair, opposed

TEMPLATE = "The {thing} was {word}. I {verb} it. My review of the {thing} is very"
SHIFTED = "I {verb} the {thing}. It was {word}. My review of the {thing} is very"
POSITIVE = (
    "great", "wonderful", "excellent", "amazing", "fantastic", "brilliant", "beautiful", "lovely",
    "perfect", "superb", "delightful", "good", "outstanding", "remarkable", "impressive",
    "incredible", "fascinating", "charming", "enjoyable", "marvelous",
)  # fmt: skip
NEGATIVE = (
    "terrible", "horrible", "awful", "bad", "boring", "dreadful", "disgusting", "poor", "ugly",
    "pathetic", "miserable", "disappointing", "annoying", "stupid", "unpleasant", "dull",
    "ridiculous", "frustrating", "tedious", "disastrous",
)  # fmt: skip
VERBS = (("loved", "hated"), ("liked", "disliked"), ("enjoyed", "regretted"), ("adored", "loathed"))
THINGS = ("film", "movie", "book", "play", "show", "song", "game", "story", "concert", "album")
VERDICTS = (" positive", " negative")


@dataclass(frozen=True)
class Sentiment:
    """Positive or negative: the verdict that fits the words before (answer), or the other (foil)?

    Entities are adjectives; verbs and things are shared by the splits. The corrupted prompt has an
    adjective and a verb of the other sentiment, which reverses the task.
    """

    name: ClassVar[str] = "sentiment"

    def entities(self) -> Sequence[str]:
        """Return the adjectives, positive and negative in turn."""
        return tuple(word for both in zip(POSITIVE, NEGATIVE, strict=True) for word in both)

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair whose corrupted prompt has the same adjective."""
        return self._pair(split, entity, entity, VERBS[0], THINGS[0])

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield every adjective in every wording, with the sentiments in turn."""
        groups = [[word for word in entities if word in kind] for kind in (POSITIVE, NEGATIVE)]
        wordings = [(verbs, thing) for verbs in VERBS for thing in THINGS]
        for turn, word, other in opposed(*groups, n_rounds=len(wordings), seed=seed):
            yield self._pair(split, word, other, *wordings[(turn * 11 + len(word)) % len(wordings)])

    def _pair(
        self, split: str, word: str, other: str, verbs: tuple[str, str], thing: str
    ) -> PromptPair:
        template = SHIFTED if split == "shifted" else TEMPLATE
        own = int(word in NEGATIVE)
        return PromptPair(
            clean=template.format(thing=thing, word=word, verb=verbs[own]),
            corrupted=template.format(thing=thing, word=other, verb=verbs[1 - own]),
            answer=VERDICTS[own],
            foil=VERDICTS[1 - own],
            entity=word,
        )
