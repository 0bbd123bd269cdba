"""Indirect object identification: of two people who met, one gives; the other one is given to.

The task is that of Wang et al., 'Interpretability in the Wild: a Circuit for Indirect Object
Identification in GPT-2 Small' (ICLR 2023); the wording is that of 'Activation Scaling for Steering
and Interpreting Language Models' (EMNLP Findings 2024), Table 2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Literal

from tasks.facts import first_names
from tasks.task import PromptPair, casts

TEMPLATE = "When {first} met with {second}, {giver} {verb} the {thing} to"
VERBS = ("gave", "handed", "offered")
THINGS = (
    "book", "ball", "letter", "ring", "drink", "bag",
    "phone", "ticket", "gift", "map", "pen", "card",
)  # fmt: skip


Corruption = Literal["swap", "third_name", "fresh_names"]
"""A as the giver, which reverses the task; a third name as the giver; or three names that the clean
prompt does not have."""


@dataclass(frozen=True)
class IOI:
    """Who is given the thing: the other person (answer), or the giver again (foil)?

    Entities are first names. Verbs and things vary from pair to pair, and are shared by the splits.
    """

    order: Literal["ABBA", "BABA"] = "ABBA"
    """Order of the names in the train and test prompts, B being the giver and A the answer: 'When A
    met with B, B gave' or 'When B met with A, B gave'. The shifted split has the other one."""
    corruption: Corruption = "swap"
    """What the corrupted prompt has instead (see `Corruption`)."""

    name: ClassVar[str] = "ioi"

    def entities(self) -> Sequence[str]:
        """Return the first names."""
        return first_names()

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair in which everybody is called `entity`."""
        return self._pair(split, (entity,) * 5, VERBS[0], THINGS[0])

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield one pair for every answer and giver, balanced over both."""
        draw = Random(f"ioi/{seed}")
        for names in casts(entities, 5, seed):
            yield self._pair(split, names, draw.choice(VERBS), draw.choice(THINGS))

    def _pair(self, split: str, names: Sequence[str], verb: str, thing: str) -> PromptPair:
        answer_first = (self.order == "ABBA") != (split == "shifted")
        template = TEMPLATE.replace("{verb}", verb).replace("{thing}", thing)
        return giving(template, names, answer_first, self.corruption)


def giving(
    template: str, names: Sequence[str], answer_first: bool, corruption: Corruption
) -> PromptPair:
    """Return the pair that tells of the first two of five names; the others are for the corruption.

    `template` has places for {first}, {second} and {giver}; the answer is the person who is told of
    first if `answer_first`.
    """
    receiver, giver, *fresh = names

    def prompt(receiver: str, giver: str, giver_again: str) -> str:
        first, second = (receiver, giver) if answer_first else (giver, receiver)
        return template.format(first=first, second=second, giver=giver_again)

    corrupted = {
        "swap": prompt(receiver, giver, receiver),
        "third_name": prompt(receiver, giver, fresh[0]),
        "fresh_names": prompt(fresh[1], fresh[2], fresh[0]),
    }
    return PromptPair(
        clean=prompt(receiver, giver, giver),
        corrupted=corrupted[corruption],
        answer=f" {receiver}",
        foil=f" {giver}",
        entity=receiver,
    )
