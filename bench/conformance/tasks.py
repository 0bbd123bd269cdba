"""What every task has to keep."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from itertools import islice
from typing import Any

from bench.conformance.check import NotConformingError, check_line, require
from bench.conformance.task_case import LOOKED_AT, SIZES, TaskCase
from tasks.task import SPLITS, PromptPair


def check_entry(case: TaskCase) -> None:
    """its name and its one line in `list` are readable"""
    require(
        case.name == case.name.lower() and case.name.isidentifier(),
        "the name has to be lower-case letters, digits and _",
    )
    check_line(case.entry.summary, "task")
    require(case.kind.__doc__, "the class has to have a docstring: what it asks")
    own = getattr(case.kind, "name", None)
    require(own == case.name, f'the class has to say name = "{case.name}"; it says {own!r}')


def check_dataclass(case: TaskCase) -> None:
    """it is a frozen dataclass whose settings have defaults"""
    task: Any = case.task
    try:
        task.some_state = 1
    except FrozenInstanceError:
        pass
    else:
        raise NotConformingError("the dataclass has to be frozen: @dataclass(frozen=True)")
    other = TaskCase(case.name).task
    require(task == other and hash(task) == hash(other), "two with the same settings are not equal")


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
