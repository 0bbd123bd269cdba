"""Indirect object identification: wording, orders, and what each corruption changes."""

import re
from typing import Any

from tasks.encoding import encode
from tasks.ioi import IOI
from tasks.task import PromptPair

NAMES = ("Anna", "Brian", "Carl", "Diana", "Emma", "Frank")
WORDING = re.compile(r"When (\w+) met with (\w+), (\w+) (\w+) the (\w+) to")


def pairs(task: IOI, split: str = "train") -> list[PromptPair]:
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


def test_length_in_smollm2_tokens_and_nothing_dropped(smollm2_tokenizer: Any) -> None:
    for order in ("ABBA", "BABA"):
        encoded = encode(
            IOI(order=order), smollm2_tokenizer, {"train": 300, "shifted": 300}, None, seed=0
        )
        assert {batch.n_positions for batch in encoded.batches.values()} == {11}
        assert encoded.dropped == {}
