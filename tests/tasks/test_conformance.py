"""What holds for every task in `TASKS`, with every choice of its settings, on a real tokenizer."""

import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from itertools import islice, product
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from tasks import TASKS
from tasks.batch import PADDING
from tasks.encoding import EncodedTask, encode
from tasks.task import Task

SIZES = {"train": 4, "test": 12, "shifted": 12}
BOS = 0
NAMES = [name for name in TASKS if name != "file"]
"""A file has no prompts before it is there: `test_from_file.py`."""
_ENCODED: dict[Task, EncodedTask] = {}
"""Tasks are encoded once for all tests."""


def with_every_choice() -> list[Any]:
    """Every task with every combination of its settings that have a fixed set of choices."""
    cases = []
    for name in NAMES:
        cls = TASKS[name].load()
        hints = get_type_hints(cls)
        choices = {
            field.name: get_args(hints[field.name])
            for field in fields(cls)
            if get_origin(hints[field.name]) is Literal
        }
        for values in product(*choices.values()):
            task = cls(**dict(zip(choices, values, strict=True)))
            cases.append(pytest.param(task, id="-".join([name, *map(str, values)])))
    return cases


@pytest.fixture(params=with_every_choice())
def task(request: pytest.FixtureRequest) -> Task:
    return request.param


@pytest.fixture
def encoded(task: Task, smollm2_tokenizer: Any) -> EncodedTask:
    if task not in _ENCODED:
        _ENCODED[task] = encode(task, smollm2_tokenizer, SIZES, BOS, seed=0)
    return _ENCODED[task]


def entities_named(task: Task, encoded: EncodedTask, split: str) -> set[str]:
    """Entities that a split's prompts, answers or foils name."""
    text = " | ".join(
        " | ".join([pair.clean, pair.corrupted, pair.answer, pair.foil])
        for pair in encoded.batches[split].pairs
    )
    return {name for name in task.entities() if re.search(rf"\b{re.escape(name)}\b", text)}


def test_sizes_lengths_and_bos(task: Task, encoded: EncodedTask) -> None:
    assert task == replace(task)
    assert hash(task) == hash(replace(task))
    assert {split: len(batch) for split, batch in encoded.batches.items()} == SIZES
    lengths = {int(length) for batch in encoded.batches.values() for length in batch.lengths}
    assert (
        len(lengths) == 1 or getattr(task, "lengths", "one") == "several" or task.name == "mixture"
    )
    for batch in encoded.batches.values():
        assert batch.tokens.shape == batch.corrupted.shape
        assert (batch.tokens != batch.corrupted).any(axis=1).all()
        for tokens in (batch.tokens, batch.corrupted):
            assert ((tokens == BOS).sum(axis=1) == 1).all()
            for row, length in zip(tokens, batch.lengths, strict=True):
                assert row[-length] == BOS
                assert (row[:-length] == PADDING).all()
                assert (row[-length:] != PADDING).all()


def test_answer_and_foil_are_one_token_after_both_prompts(
    encoded: EncodedTask, smollm2_tokenizer: Any
) -> None:
    for batch in encoded.batches.values():
        assert (batch.answers != batch.foils).all()
        for row, pair in enumerate(batch.pairs):
            for text, tokens in ((pair.clean, batch.tokens), (pair.corrupted, batch.corrupted)):
                own = tokens[row, -batch.lengths[row] :].tolist()
                for ending, ids in ((pair.answer, batch.answers), (pair.foil, batch.foils)):
                    # Digits are the exception: tokenizers take the space before them apart.
                    assert ending.isdigit() or (ending[0] == " " and text[-1] != " ")
                    assert smollm2_tokenizer.encode(text + ending, add_special_tokens=False) == [
                        *own[1:],
                        ids[row],
                    ]


def test_held_out_splits_name_nothing_seen_in_training(task: Task, encoded: EncodedTask) -> None:
    seen = entities_named(task, encoded, "train")
    assert seen
    assert seen.isdisjoint(entities_named(task, encoded, "test"))
    assert seen.isdisjoint(entities_named(task, encoded, "shifted"))
    prompts = {split: {pair.clean for pair in b.pairs} for split, b in encoded.batches.items()}
    assert prompts["train"].isdisjoint(prompts["test"] | prompts["shifted"])


def test_shifted_split_is_the_test_split_in_another_template(encoded: EncodedTask) -> None:
    for test, shifted in zip(
        encoded.batches["test"].pairs, encoded.batches["shifted"].pairs, strict=True
    ):
        assert (test.answer, test.foil, test.entity) == (
            shifted.answer,
            shifted.foil,
            shifted.entity,
        )
        assert test.clean != shifted.clean
        assert test.corrupted != shifted.corrupted


def test_every_entity_is_asked_about_before_any_is_again(task: Task) -> None:
    entities = task.entities()[:20]
    for split in SIZES:
        asked = [pair.entity for pair in islice(task.candidates(split, entities, 5), 40)]
        assert sorted(asked[:20]) == sorted(asked[20:]) == sorted(entities)


def test_candidates_come_to_an_end_without_repeats(task: Task) -> None:
    entities = task.entities()[:7]
    pairs = list(task.candidates("train", entities, 5))
    assert len(pairs) >= 7
    assert len({(pair.clean, pair.foil) for pair in pairs}) == len(pairs)
    assert list(task.candidates("train", entities[:1], 5)) == []


def test_same_seed_same_prompts(task: Task, encoded: EncodedTask, smollm2_tokenizer: Any) -> None:
    """What is drawn with every choice; what becomes of it in tokens with the usual ones."""
    entities = task.entities()[:20]
    for split in SIZES:
        first, again, other = (
            list(islice(task.candidates(split, entities, seed), 30)) for seed in (0, 0, 1)
        )
        assert first == again
        assert first != other
    if task == type(task)():
        tokens = encode(task, smollm2_tokenizer, SIZES, BOS, seed=0)
        for split, batch in encoded.batches.items():
            assert batch.pairs == tokens.batches[split].pairs
            np.testing.assert_array_equal(batch.tokens, tokens.batches[split].tokens)


def test_prompts_do_not_depend_on_the_process_and_need_no_torch() -> None:
    code = (
        "import sys; from tasks import TASKS; import tasks.encoding\n"
        f"for name in {NAMES!r}:\n"
        "    task = TASKS[name].load()()\n"
        "    print(list(task.candidates('test', task.entities()[:8], 3)))\n"
        "assert not {'torch', 'transformers', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(printed) == 1
    assert printed.pop().count(b"[PromptPair") == len(NAMES)
