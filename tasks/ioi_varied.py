"""Indirect object identification in fifteen wordings with varied places and objects.

The templates, places and objects are those of Wang et al., 'Interpretability in the Wild: a Circuit
for Indirect Object Identification in GPT-2 Small' (ICLR 2023), Appendix.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Literal

from tasks.facts import first_names
from tasks.ioi import Corruption, giving
from tasks.task import PromptPair, casts

TEMPLATES = (
    "Then, {first} and {second} went to the {place}. {giver} gave a {thing} to",
    "Then, {first} and {second} had a lot of fun at the {place}. {giver} gave a {thing} to",
    "Then, {first} and {second} were working at the {place}. {giver} decided to give a {thing} to",
    "Then, {first} and {second} were thinking about going to the {place}. {giver} wanted to give "
    "a {thing} to",
    "Then, {first} and {second} had a long argument, and afterwards {giver} said to",
    "After {first} and {second} went to the {place}, {giver} gave a {thing} to",
    "When {first} and {second} got a {thing} at the {place}, {giver} decided to give it to",
    "When {first} and {second} got a {thing} at the {place}, {giver} decided to give the {thing} "
    "to",
    "While {first} and {second} were working at the {place}, {giver} gave a {thing} to",
    "While {first} and {second} were commuting to the {place}, {giver} gave a {thing} to",
    "After the lunch, {first} and {second} went to the {place}. {giver} gave a {thing} to",
    "Afterwards, {first} and {second} went to the {place}. {giver} gave a {thing} to",
    "Then, {first} and {second} had a long argument. Afterwards {giver} said to",
    "The {place} {first} and {second} went to had a {thing}. {giver} gave it to",
    "Friends {first} and {second} found a {thing} at the {place}. {giver} gave it to",
)
PLACES = ("store", "garden", "restaurant", "school", "hospital", "office", "house", "station")
THINGS = ("ring", "kiss", "bone", "basketball", "computer", "necklace", "drink", "snack")


@dataclass(frozen=True)
class IOIVaried:
    """Who is given the thing: the other person (answer), or the giver again (foil)?

    Entities are first names, divided as those of `ioi`. Wordings, places and things vary from pair
    to pair, and are shared by the splits.
    """

    order: Literal["ABBA", "BABA"] = "ABBA"
    """Order of the names in the train and test prompts, B being the giver and A the answer. The
    shifted split has the other one."""
    corruption: Corruption = "swap"
    """What the corrupted prompt has instead (see `tasks.ioi.Corruption`)."""
    lengths: Literal["one", "several"] = "several"
    """Prompts of all lengths (14 to 20 tokens of SmolLM2), or of the most frequent one only."""

    name: ClassVar[str] = "ioi_varied"
    divided_as: ClassVar[str] = "ioi"

    def entities(self) -> Sequence[str]:
        """Return the first names."""
        return first_names()

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair in which everybody is called `entity`, in the first wording."""
        return self._pair(split, (entity,) * 5, TEMPLATES[0], PLACES[0], THINGS[0])

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield one pair for every answer and giver, balanced over both and over wordings."""
        draw = Random(f"ioi_varied/{seed}")
        wordings: list[str] = []
        for names in casts(entities, 5, seed):
            wordings = wordings or draw.sample(TEMPLATES, len(TEMPLATES))
            place, thing = draw.choice(PLACES), draw.choice(THINGS)
            yield self._pair(split, names, wordings.pop(), place, thing)

    def _pair(
        self, split: str, names: Sequence[str], template: str, place: str, thing: str
    ) -> PromptPair:
        answer_first = (self.order == "ABBA") != (split == "shifted")
        filled = template.replace("{place}", place).replace("{thing}", thing)
        return giving(filled, names, answer_first, self.corruption)
