"""What a task is: pairs of prompts over entities, and how its pairs are divided into splits.

A task gives strings only. What a tokenizer makes of them is checked in `tasks.encoding`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Protocol

SPLITS = ("train", "test", "shifted")
"""Splits A, B and C of 'Activation Scaling for Steering and Interpreting Language Models' (EMNLP
Findings 2024), Table 2: `test` has other entities than `train`; `shifted` has those of `test` in
another template of the same length."""


@dataclass(frozen=True)
class PromptPair:
    """A clean prompt, its corrupted counterpart, and the two next tokens compared after both."""

    clean: str
    corrupted: str
    answer: str
    """The correct next token of the clean prompt, with its leading space."""
    foil: str
    """The wrong next token that the answer is compared with, with its leading space."""
    entity: str
    """What the pair asks about: resampling over entities takes pairs of one entity together."""


class Task(Protocol):
    """A family of prompts: a frozen dataclass whose fields are its settings."""

    name: ClassVar[str]

    def entities(self) -> Sequence[str]:
        """Return everything that is divided between `train` and the two held-out splits.

        Names in the answer, in the foil and in the corrupted prompt are all entities, so that
        nothing that the held-out splits ask about was ever seen in training.
        """
        ...

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair in which `entity` plays every part, answer and foil included.

        It tells, before entities are divided, whether a tokenizer can use this one at all.
        """
        ...

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield the pairs of a split over the given entities, in an order drawn from `seed`.

        No pair is repeated, every entity is asked about before any is asked about again, and the
        same arguments give the same pairs in every process. Test and shifted split get the same
        entities and seed, and should differ in nothing but the template.
        """
        ...


def asked_of(task: Task, model: str) -> Task | None:
    """Return a task as a model is asked it; None where it has nothing to ask of that one.

    A task with a method `asked_of` has prompts of its own for each model; others ask all the same.
    """
    adapt = getattr(task, "asked_of", None)
    return adapt(model) if adapt else task


def casts(entities: Sequence[str], n_parts: int, seed: int) -> Iterator[tuple[str, ...]]:
    """Yield casts of `n_parts` different entities, balanced over entities in every part.

    In each round of `len(entities)` casts every entity plays every part exactly once. The first two
    parts never meet twice, which ends the stream after n (n - 1) casts; they do not depend on
    `n_parts`. With fewer entities than parts there are no casts.
    """
    n_entities = len(entities)
    if n_entities < max(n_parts, 2):
        return
    order = list(entities)
    draw, draw_rest = Random(f"cast/{seed}"), Random(f"cast/rest/{seed}")
    draw.shuffle(order)
    offsets = list(range(1, n_entities))
    draw.shuffle(offsets)
    for offset in offsets:
        others = [other for other in range(1, n_entities) if other != offset]
        steps = (0, offset, *draw_rest.sample(others, n_parts - 2))
        for first in range(n_entities):
            yield tuple(order[(first + step) % n_entities] for step in steps)


def opposed(
    first: Sequence[str], second: Sequence[str], *, n_rounds: int, seed: int
) -> Iterator[tuple[int, str, str]]:
    """Yield (round, entity, one of the other group), the two groups in turn as far as they go.

    In each round every entity of both groups comes once. Without a second group there is nothing to
    oppose, and so no pair.
    """
    draw = Random(f"opposed/{seed}")
    groups = [draw.sample(list(group), len(group)) for group in (first, second)]
    if not all(groups):
        return
    for turn in range(n_rounds):
        for index in range(max(map(len, groups))):
            for group, others in (groups, groups[::-1]):
                if index < len(group):
                    yield turn, group[index], others[(index + turn) % len(others)]
