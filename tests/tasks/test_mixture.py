"""Mixtures: the same prompts as the tasks alone, on the same side of train and test."""

from dataclasses import asdict
from typing import Any

import pytest

from tasks.batch import PADDING
from tasks.build import build_task, label_of
from tasks.ccc import CCC
from tasks.encoding import encode
from tasks.errors import UserInputError
from tasks.ioi import IOI
from tasks.mixture import Mixture
from tests.tasks.words import BOS, WordTokenizer

SIZES = {"train": 7, "test": 6, "shifted": 4}


def test_prompts_are_those_of_the_tasks_alone_in_turn() -> None:
    tokenizer = WordTokenizer()
    mixed = encode(Mixture(), tokenizer, SIZES, BOS, seed=2)
    for split, shares in {"train": (4, 3), "test": (3, 3), "shifted": (2, 2)}.items():
        batch = mixed.batches[split]
        for first, (task, share) in enumerate(zip((CCC(), IOI()), shares, strict=True)):
            alone = encode(task, tokenizer, {"train": 4, split: share}, BOS, seed=2).batches[split]
            assert batch.pairs[first::2] == alone.pairs[:share]
            for row in range(share):
                own = batch.tokens[first + 2 * row]
                assert own[own != PADDING].tolist() == alone.tokens[row].tolist()
                assert batch.answers[first + 2 * row] == alone.answers[row]
                assert batch.foils[first + 2 * row] == alone.foils[row]
        assert batch.n_positions == 24
    assert mixed.lengths == (12, 24)
    assert all(why.startswith(("ccc: ", "ioi: ")) for why in mixed.dropped)


def test_tasks_are_named_with_settings_of_their_own() -> None:
    name, task = build_task("mixture", {"of": ["gender", {"name": "ioi", "order": "BABA"}, "ccc"]})
    assert isinstance(task, Mixture)
    assert [type(part).__name__ for part in task.parts] == ["Gender", "IOI", "CCC"]
    assert label_of(name, task) == "mixture[of=(gender, ioi[order=BABA], ccc)]"
    assert label_of("mixture", Mixture()) == "mixture"
    assert asdict(task)["of"][1] == {"name": "ioi", "task": {"order": "BABA", "corruption": "swap"}}


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ("ccc", "of is 'ccc'; a mixture needs a list of tasks"),
        (["ccc"], "two or more other tasks"),
        (["ccc", "ccc"], "two or more other tasks"),
        (["ccc", "mixture"], "of names a mixture"),
        (["ccc", "ioj"], 'no task "ioj". Did you mean "ioi"?'),
        (["ccc", {"name": "ioi", "oder": 1}], 'no setting "oder". Did you mean "order"?'),
        (["ccc", {"order": "BABA"}], "a task is a name, or a mapping with its name"),
        (["ccc", 3], "a task is a name, or a mapping with its name"),
    ],
)
def test_what_is_no_mixture_is_an_error(of: Any, message: str) -> None:
    with pytest.raises(UserInputError) as error:
        build_task("mixture", {"of": of})
    assert message in str(error.value)


def test_a_split_needs_a_prompt_of_every_task() -> None:
    with pytest.raises(UserInputError, match=r'"train" has 1 prompts for a mixture of 2 tasks'):
        encode(Mixture(), WordTokenizer(), {"train": 1}, BOS, seed=0)
