"""Indirect object identification, in one wording and in fifteen: orders and corruptions."""

import re
from typing import Any

import pytest

from tasks.batch import PADDING
from tasks.encoding import encode
from tasks.facts import first_names
from tasks.ioi import IOI
from tasks.ioi_varied import PLACES, TEMPLATES, THINGS, IOIVaried
from tasks.task import PromptPair, Task

NAMES = ("Anna", "Brian", "Carl", "Diana", "Emma", "Frank")
WORDING = re.compile(r"When (\w+) met with (\w+), (\w+) (\w+) the (\w+) to")


def pairs(task: Task, split: str = "train") -> list[PromptPair]:
    return list(task.candidates(split, NAMES, seed=0))


def told(prompt: str) -> tuple[str, ...]:
    """First, second and giving person, verb and thing."""
    match = WORDING.fullmatch(prompt)
    assert match
    return match.groups()


def test_orders_mirror_each_other_between_splits() -> None:
    for order, other in (("ABBA", "BABA"), ("BABA", "ABBA")):
        for split, used in (("train", order), ("test", order), ("shifted", other)):
            for pair in pairs(IOI(order=order), split):
                first, second, giver, *_ = told(pair.clean)
                receiver = {first, second} - {giver}
                assert {pair.answer} == {f" {name}" for name in receiver}
                assert pair.foil == f" {giver}"
                assert giver == (second if used == "ABBA" else first)


def test_swap_makes_the_receiver_give() -> None:
    for pair in pairs(IOI(corruption="swap")):
        first, second, giver, *rest = told(pair.clean)
        assert told(pair.corrupted) == (first, second, pair.answer.strip(), *rest)
        assert giver != pair.answer.strip()


def test_fresh_names_are_three_that_the_clean_prompt_does_not_have() -> None:
    for pair in pairs(IOI(corruption="fresh_names")):
        *clean, verb, thing = told(pair.clean)
        *fresh, same_verb, same_thing = told(pair.corrupted)
        assert len({*clean, *fresh}) == 5
        assert (same_verb, same_thing) == (verb, thing)


def test_fifteen_wordings_all_used_before_any_is_used_again() -> None:
    assert len(set(TEMPLATES)) == 15
    openings = {pair.clean.replace(name, "") for pair in pairs(IOIVaried())[:15] for name in NAMES}
    assert len(openings) >= 15
    told = IOIVaried().candidates("train", first_names()[:20], seed=0)
    text = " ".join(pair.clean for pair in told)
    assert all(noun in text for noun in PLACES + THINGS)


@pytest.mark.parametrize(("order", "split"), [("ABBA", "train"), ("BABA", "shifted")])
def test_abba_names_the_answer_first(order: Any, split: str) -> None:
    for pair in pairs(IOIVaried(order), split):
        assert pair.clean.index(pair.answer) < pair.clean.index(pair.foil)
        assert pair.clean.count(pair.foil) == 2
        assert pair.clean.count(pair.answer) == 1


def test_swap_in_any_wording_names_the_receiver_again() -> None:
    for pair in pairs(IOIVaried()):
        assert pair.corrupted.count(pair.answer) == 2
        assert pair.corrupted.count(pair.foil) == 1


def test_lengths_of_any_wording_in_smollm2_tokens(smollm2_tokenizer: Any) -> None:
    sizes = {"train": 60, "test": 60, "shifted": 60}
    several = encode(IOIVaried(), smollm2_tokenizer, sizes, None, seed=0)
    assert several.dropped == {}
    for batch in several.batches.values():
        assert set(batch.lengths) == set(range(14, 21))
        assert batch.n_positions == 20
        assert (batch.tokens[:, -1] != PADDING).all()
        for row, length in enumerate(batch.lengths):
            text = smollm2_tokenizer.decode(batch.tokens[row, -length:].tolist())
            assert text == batch.pairs[row].clean
            assert batch.token_strings[row][:-length] == ("",) * (20 - length)
    one = encode(IOIVaried(lengths="one"), smollm2_tokenizer, sizes, None, seed=0)
    assert {int(n) for batch in one.batches.values() for n in batch.lengths} == {15}
