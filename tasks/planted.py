"""Prompts of planted models: GPT-2s whose circuit is known, because it was wired in by hand.

What a model answers, and where its words stand, is drawn from its name (`Layout`); the weights that
go with it are wired in `bench.models.planted`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from tasks.errors import nearest
from tasks.task import PromptPair, casts

SUBJECTS = (
    "apple", "table", "river", "stone", "bread", "chair", "cloud", "horse", "light", "music",
    "paper", "plant", "queen", "smoke", "sugar", "tiger", "train", "water", "wheel", "window",
)  # fmt: skip
ANSWERS = (
    "bridge", "butter", "castle", "circle", "doctor", "flower", "forest", "garden", "hammer",
    "island", "jacket", "kitchen", "market", "mirror", "orange", "school", "silver", "summer",
    "ticket", "valley",
)  # fmt: skip
FILLERS = ("and", "with", "from", "over", "under", "near", "through", "before")
SHIFTED_FILLERS = ("or", "without", "to", "above", "below", "far", "across", "after")
OPENERS = {"train": "Here", "test": "Here", "shifted": "Now"}
QUERY, NEUTRAL = "gives", "nothing"
POINTERS = ("first", "second")
LONGEST = 11
"""Tokens of the longest prompt, BOS included."""


class Family(NamedTuple):
    """A kind of circuit: the places of its prompts, and what its counterfactuals change."""

    blocks: tuple[tuple[str, ...], ...]
    """Places in the order in which they stand; those of a block stand side by side."""
    counterfactuals: Mapping[str, tuple[str, ...]]
    """The places whose words differ in the corrupted prompt; the first one is the default."""


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "lookup": Family((("subject",),), {"subject": ("subject",)}),
        "induction": Family(
            (("first", "first_value"), ("second", "second_value")), {"first": ("first", "second")}
        ),
        "conflict": Family(
            (("key", "value"), ("subject",)),
            {"memory": ("key", "subject"), "context": ("key",)},
        ),
        "ioi": Family((("first",), ("second",), ("repeat",)), {"repeat": ("repeat",)}),
        "backup": Family((("subject",),), {"subject": ("subject",)}),
        "distractors": Family((("first",), ("second",), ("pointer",)), {"pointer": ("pointer",)}),
    }
)
TRAINED = "-trained"
"""Ends the name of a model with ordinary norms that was trained to have the same circuit."""
NAME = re.compile(rf"planted-({'|'.join(FAMILIES)})(?:-(\d{{1,6}}))?(?:{TRAINED})?")


def planted_name(model: str) -> tuple[str, int] | None:
    """Return family and seed of `planted-FAMILY` (seed 0) or `planted-FAMILY-SEED`, else None.

    The same with `-trained` behind it, which has the same prompts.
    """
    found = NAME.fullmatch(model)
    return (found[1], int(found[2] or 0)) if found else None


@dataclass(frozen=True)
class Layout:
    """Where words stand in the prompts of a planted model, and what it knows of its subjects.

    Attributes:
        family: one of `FAMILIES`.
        n_positions: length of every prompt in tokens, BOS (position 0) included.
        places: position of every place of the family; "last" is the answer position.
        answers: what the model answers to every one of `SUBJECTS`.
    """

    family: str
    n_positions: int
    places: Mapping[str, int]
    answers: tuple[str, ...]

    @staticmethod
    def of(family: str, seed: int) -> "Layout":
        """Draw the layout of a model."""
        draw = Random(f"planted/{family}/{seed}")
        n_positions = draw.randint(8, LONGEST)
        blocks = FAMILIES[family].blocks
        spare = n_positions - 3 - sum(map(len, blocks))  # BOS, opener and last are taken
        gaps = sorted(draw.randint(0, spare) for _ in blocks)
        places, at = {"last": n_positions - 1}, 2
        for gap, before, block in zip(gaps, [0, *gaps], blocks, strict=False):
            at += gap - before
            for place in block:
                places[place] = at
                at += 1
        return Layout(family, n_positions, places, tuple(draw.sample(ANSWERS, len(ANSWERS))))

    def answer(self, subject: str) -> str:
        """Return what the model knows of a subject."""
        return self.answers[SUBJECTS.index(subject)]

    def text(self, split: str, words: Mapping[str, str]) -> str:
        """Return a prompt with these words at their places; the last word is `gives` if not said.

        Other places have words that mean nothing, others in the shifted split.
        """
        fillers = SHIFTED_FILLERS if split == "shifted" else FILLERS
        line = [OPENERS[split], *fillers[: self.n_positions - 3], QUERY]
        for place, word in words.items():
            line[self.places[place] - 1] = word
        return " ".join(line)


@dataclass(frozen=True)
class Planted:
    """What a planted model was wired to answer, one counterfactual at a time.

    Entities are subjects. `lookup` answers what it knows of the subject; `backup` too, by two
    heads, and the corrupted prompt has no subject. `distractors` has two subjects and a word that
    points at one. `induction` repeats what followed the last word before. `ioi` answers the name
    that is not repeated. `conflict` knows an answer, and the prompt states another one after the
    subject (the foil): the counterfactual changes the subject everywhere (`memory`), or where the
    statement names it alone (`context`). The shifted split has other words in between.

    Attributes:
        model: whose prompts they are; a matrix asks every planted model for its own. That of the
            first family that has the counterfactual, if empty.
        counterfactual: one of the family's (`FAMILIES`); the first if empty.
    """

    name: ClassVar[str] = "planted"
    model: str = field(default="", repr=False)
    counterfactual: str = ""

    def __post_init__(self) -> None:
        """Refuse a model that is not planted, and a counterfactual that it does not have."""
        named = planted_name(self.model)
        if self.model and named is None:
            known = ", ".join(f"planted-{family}" for family in FAMILIES)
            raise ValueError(
                f'"{self.model}" is no planted model; there are {known}, each with a seed behind '
                "it: planted-lookup-3"
            )
        families = [FAMILIES[named[0]]] if named else [*FAMILIES.values()]
        known_ones = list(dict.fromkeys(n for one in families for n in one.counterfactuals))
        if self.counterfactual and self.counterfactual not in known_ones:
            raise ValueError(
                f'there is no counterfactual "{self.counterfactual}".'
                f"{nearest(self.counterfactual, known_ones)}"
            )

    def asked_of(self, model: str) -> "Planted | None":
        """Return the task for a model; None for one that it has no prompts for."""
        found = planted_name(model)
        if found is None:
            return None
        own = FAMILIES[found[0]].counterfactuals
        if self.counterfactual and self.counterfactual not in own:
            return None
        return replace(self, model=model)

    @property
    def changed(self) -> str:
        """The counterfactual, by its name."""
        return self.counterfactual or next(iter(FAMILIES[self._layout.family].counterfactuals))

    @property
    def _layout(self) -> Layout:
        asked = self.counterfactual
        able = [name for name, one in FAMILIES.items() if not asked or asked in one.counterfactuals]
        return Layout.of(*(planted_name(self.model) or (able[0], 0)))

    def entities(self) -> Sequence[str]:
        """Return the subjects."""
        return SUBJECTS

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair in which a subject plays every part."""
        return self._pair(split, (entity,) * 4)

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield one pair for every subject and other subject, balanced over both."""
        for cast in casts(entities, 4, seed):
            yield self._pair(split, cast)

    def _pair(self, split: str, cast: Sequence[str]) -> PromptPair:
        layout, changed = self._layout, self.changed
        clean, changes, answer, foil = _WORDS[layout.family](layout, cast)
        places = FAMILIES[layout.family].counterfactuals[changed]
        corrupted = {**clean, **{place: changes[place] for place in places}}
        return PromptPair(
            clean=layout.text(split, clean),
            corrupted=layout.text(split, corrupted),
            answer=f" {answer}",
            foil=f" {foil}",
            entity=cast[0],
        )


Words = dict[str, str]


def _lookup(layout: Layout, cast: Sequence[str]) -> tuple[Words, Words, str, str]:
    """Words of the clean prompt, what may be changed into what, answer and foil."""
    one, other, *_ = cast
    return {"subject": one}, {"subject": other}, layout.answer(one), layout.answer(other)


def _backup(layout: Layout, cast: Sequence[str]) -> tuple[Words, Words, str, str]:
    one, other, *_ = cast
    return {"subject": one}, {"subject": NEUTRAL}, layout.answer(one), layout.answer(other)


def _conflict(layout: Layout, cast: Sequence[str]) -> tuple[Words, Words, str, str]:
    one, other, third, _ = cast
    stated = layout.answer(other)
    clean = {"key": one, "value": stated, "subject": one}
    return clean, {"key": third, "subject": third}, layout.answer(one), stated


def _induction(layout: Layout, cast: Sequence[str]) -> tuple[Words, Words, str, str]:
    one, other, value, other_value = cast
    clean = {"first": one, "first_value": value, "second": other, "second_value": other_value}
    clean["last"] = one
    return clean, {"first": other, "second": one}, value, other_value


def _ioi(layout: Layout, cast: Sequence[str]) -> tuple[Words, Words, str, str]:
    one, other, *_ = cast
    first, second = (one, other) if _turn(one, other) else (other, one)
    return {"first": first, "second": second, "repeat": other}, {"repeat": one}, one, other


def _distractors(layout: Layout, cast: Sequence[str]) -> tuple[Words, Words, str, str]:
    one, other, *_ = cast
    turn = _turn(one, other)
    first, second = (one, other) if turn else (other, one)
    at, elsewhere = POINTERS if turn else POINTERS[::-1]
    clean = {"first": first, "second": second, "pointer": at}
    return clean, {"pointer": elsewhere}, layout.answer(one), layout.answer(other)


def _turn(one: str, other: str) -> bool:
    """Whether the answer's subject stands first: half of all pairs."""
    return (SUBJECTS.index(one) + SUBJECTS.index(other)) % 2 == 0


_WORDS = {
    "lookup": _lookup,
    "induction": _induction,
    "conflict": _conflict,
    "ioi": _ioi,
    "backup": _backup,
    "distractors": _distractors,
}


def vocabulary() -> list[str]:
    """Return every word of planted prompts, those that open one without a space in front."""
    openers = list(dict.fromkeys(OPENERS.values()))
    spaced = (*SUBJECTS, *ANSWERS, *FILLERS, *SHIFTED_FILLERS, *POINTERS, QUERY, NEUTRAL)
    return [*openers, *(f" {word}" for word in spaced)]
