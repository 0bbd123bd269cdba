"""What every task has to keep, with a tokenizer in which each of its words is a token."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from bench.conformance.check import check_frozen, check_names, require
from tasks import TASKS
from tasks.encoding import EncodedTask, encode
from tasks.registry import configure, lookup
from tasks.task import SPLITS, PromptPair, Task

SIZES = {"train": 4, "test": 6, "shifted": 6}
LOOKED_AT = 300
"""Candidates of a split that are looked at."""
MAX_CANDIDATES = 200_000
BOS = 0


class Words:
    """A tokenizer in which every word with its leading space is a token, numbered as it comes.

    Letters, digits and punctuation are apart, and every digit is a token, as in many tokenizers.
    """

    split = re.compile(r" (?=\d)|\d| ?[^\W\d_]+| ?[^\s\w]+| ?_+|\s+")

    def __init__(self) -> None:
        self.ids: dict[str, int] = {"<bos>": BOS}
        self.words = ["<bos>"]

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The numbers of the words."""
        found = []
        for word in self.split.findall(text):
            if word not in self.ids:
                self.ids[word] = len(self.words)
                self.words.append(word)
            found.append(self.ids[word])
        return found

    def decode(self, token_ids: list[int]) -> str:
        """The words."""
        return "".join(self.words[token] for token in token_ids)


class TaskCase:
    """A task, with its default settings and a tokenizer of words where no others are given."""

    def __init__(
        self, name: str, settings: Mapping[str, Any] | None = None, tokenizer: Any = None
    ) -> None:
        self.name, self.settings = name, settings or {}
        self.tokenizer = tokenizer or Words()
        self.entry = lookup(TASKS, name, "task")
        self.kind: type[Any] = self.entry.load()
        self.task: Task = configure(self.kind, self.settings, f'task "{name}"')
        self.several = bool(getattr(self.task, "parts", ())) or (
            getattr(self.task, "lengths", "one") == "several"
        )

    @cached_property
    def entities(self) -> list[str]:
        """Everything that is divided between the splits."""
        return list(self.task.entities())

    def pairs(self, split: str, entities: Sequence[str] | None = None) -> list[PromptPair]:
        """The first candidates of a split."""
        chosen = self.entities if entities is None else entities
        return list(islice(self.task.candidates(split, chosen, 0), LOOKED_AT))

    @cached_property
    def has_shifted(self) -> bool:
        """Whether there is a third split; a file need not have one."""
        return bool(self.pairs("shifted"))

    def few(self, split: str) -> list[PromptPair]:
        """All candidates over five entities.

        Raises:
            NotConformingError: if there is no end to them.
        """
        drawn = self.task.candidates(split, self.entities[:5], 0)
        found = list(islice(drawn, MAX_CANDIDATES))
        require(len(found) < MAX_CANDIDATES, f"in {split}, candidates() does not come to an end")
        return found

    @cached_property
    def encoded(self) -> EncodedTask:
        """A few prompts of each split as tokens."""
        for split in SPLITS:
            self.few(split)  # or the search for usable ones would not end either
        sizes = {split: size for split, size in SIZES.items() if split != "shifted"}
        sizes = SIZES if self.has_shifted else sizes
        return encode(self.task, self.tokenizer, sizes, BOS, 0)


def check_entry(case: TaskCase) -> None:
    """its name and its one line in `list` are readable"""
    check_names(case, "task", "what it asks")
    own = getattr(case.kind, "name", None)
    require(own == case.name, f'the class has to say name = "{case.name}"; it says {own!r}')


def check_dataclass(case: TaskCase) -> None:
    """it is a frozen dataclass whose settings have defaults"""
    other = TaskCase(case.name, case.settings).task
    check_frozen(case.task, other)
    require(hash(case.task) == hash(other), "two with the same settings have to be equal")


def check_entities(case: TaskCase) -> None:
    """it asks about several entities, each once"""
    require(
        all(isinstance(entity, str) and entity for entity in case.entities),
        "entities() has to give strings that are not empty",
    )
    require(len(set(case.entities)) == len(case.entities), "entities() names one twice")
    require(len(case.entities) >= 4, "entities() has to give four at least, half of them held out")


def check_pairs(case: TaskCase) -> None:
    """its pairs have two different prompts, and a different answer and foil"""
    for split in SPLITS[: 2 + case.has_shifted]:
        probes = [case.task.probe(split, entity) for entity in case.entities]
        require(
            [pair.entity for pair in probes] == case.entities,
            "probe(split, entity) has to be about that entity",
        )
        pairs = case.pairs(split)
        require(len(pairs) > 1, f"candidates() gives no pairs for the split {split}")
        for pair in pairs:
            text = (pair.clean, pair.corrupted, pair.answer, pair.foil)
            require(
                isinstance(pair, PromptPair) and all(isinstance(one, str) and one for one in text),
                "a pair has to be a PromptPair of texts that are not empty",
            )
            require(
                pair.entity in case.entities,
                f'in {split}, "{pair.clean}" is about none of the entities',
            )
        # What is not different is left out when prompts are drawn.
        for words, same in (
            ("the corrupted prompt is the clean one", [p.clean == p.corrupted for p in pairs]),
            ("the foil is the answer", [p.answer == p.foil for p in pairs]),
        ):
            require(2 * sum(same) < len(same), f"in {sum(same)} of {len(same)} pairs {words}")


def check_order(case: TaskCase) -> None:
    """every entity is asked about before any is again, no pair comes twice, and there is an end"""
    entities = case.entities[:20]
    for split in SPLITS[: 2 + case.has_shifted]:
        pairs = case.pairs(split, entities)
        asked = [pair.entity for pair in pairs[: len(entities)]]
        require(
            len(set(asked)) == len(asked),
            f"in {split}, candidates() asks about {asked[:5]} ... again before all others",
        )
        few = case.few(split)
        seen = {(pair.clean, pair.corrupted, pair.answer, pair.foil) for pair in few}
        require(len(seen) == len(few), f"in {split}, candidates() gives a pair twice")
        list(islice(case.task.candidates(split, entities[:1], 0), 10))  # may be none, not an error


def check_seed(case: TaskCase) -> None:
    """the same seed gives the same prompts, whatever the random state; another one gives others"""
    state = random.getstate()
    try:
        for split in SPLITS[: 2 + case.has_shifted]:
            random.seed(1)
            first = case.pairs(split)
            random.seed(2)
            require(
                first == case.pairs(split),
                f"two calls with one seed differ in {split}: draw from random.Random(seed)",
            )
            other = list(islice(case.task.candidates(split, case.entities, 1), LOOKED_AT))
            require(first != other, f"in {split}, another seed changes nothing")
        random.seed(3)
        expected = random.getstate()
        case.pairs("train")
        require(random.getstate() == expected, "it draws from Python's global random state")
    finally:
        random.setstate(state)


def check_tokens(case: TaskCase) -> None:
    """a tokenizer of words can use it: answers of one word, prompts and corruptions as long"""
    for split, batch in case.encoded.batches.items():
        require(len(batch) == SIZES[split], f"{split} has {len(batch)} prompts of {SIZES[split]}")
    require(
        case.several or len(case.encoded.lengths) == 1,
        f"prompts have {case.encoded.lengths} tokens: a task of several lengths says lengths",
    )


def check_held_out(case: TaskCase) -> None:
    """held-out splits name no entity that training names"""

    def named(split: str) -> set[str]:
        pairs = case.encoded.batches[split].pairs
        text = " | ".join(f"{p.clean}|{p.corrupted}|{p.answer}|{p.foil}" for p in pairs)
        return {e for e in case.entities if re.search(rf"\b{re.escape(e)}\b", text)}

    for split in case.encoded.batches:
        if split != "train":
            both = sorted(named("train") & named(split))
            require(not both, f"{split} names {', '.join(both[:5])}, which train names too")


def check_shifted(case: TaskCase) -> None:
    """the shifted split asks what the test split asks, in other words"""
    if not case.has_shifted:
        return
    test, shifted = (case.encoded.batches[split].pairs for split in ("test", "shifted"))
    for one, other in zip(test, shifted, strict=True):
        require(
            (one.answer, one.foil, one.entity) == (other.answer, other.foil, other.entity),
            f'"{other.clean}" asks something else than "{one.clean}"',
        )
        require(one.clean != other.clean, f'"{one.clean}" is in the same words in both')


CHECKS: tuple[Callable[[TaskCase], None], ...] = (
    check_entry,
    check_dataclass,
    check_entities,
    check_pairs,
    check_order,
    check_seed,
    check_tokens,
    check_held_out,
    check_shifted,
)
"""Every check; its docstring is what it makes sure of, in words."""
