"""What holds for every task in `TASKS`, with every choice of its settings, on a real tokenizer."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from itertools import combinations, product
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from bench.conformance.check import run_checks
from bench.conformance.tasks import BOS, CHECKS, TaskCase
from tasks import TASKS
from tasks.batch import PADDING

NAMES = [name for name in TASKS if name != "file"]
"""A file has no prompts before it is there: `test_from_file.py`."""
_CASES: dict[str, TaskCase] = {}
"""Tasks are encoded once for all tests."""


def with_every_choice() -> list[Any]:
    """Every task with every two choices of its settings that have a fixed set of them."""
    found: dict[str, Any] = {}
    for name in NAMES:
        cls = TASKS[name].load()
        hints = get_type_hints(cls)
        choices = {
            field.name: get_args(hints[field.name])
            for field in fields(cls)
            if get_origin(hints[field.name]) is Literal
        }
        for two in combinations(choices, min(2, len(choices))):
            for values in product(*(choices[setting] for setting in two)):
                settings = dict(zip(two, values, strict=True))
                built = repr(cls(**settings))  # as a default is also a choice
                found[built] = pytest.param((name, settings), id="-".join([name, *values]))
    return [*found.values()]


@pytest.fixture(params=with_every_choice())
def case(request: pytest.FixtureRequest, smollm2_tokenizer: Any) -> TaskCase:
    name, settings = request.param
    key = f"{name} {settings}"
    if key not in _CASES:
        _CASES[key] = TaskCase(name, settings, smollm2_tokenizer)
    return _CASES[key]


def test_it_conforms(case: TaskCase) -> None:
    found = list(run_checks(lambda: case, CHECKS))
    assert [outcome for outcome in found if outcome.problem] == []
    assert len(found) == len(CHECKS)


@pytest.mark.parametrize("name", NAMES)
def test_it_conforms_as_check_asks_it(name: str) -> None:
    """By default, with no model's tokenizer: `python -m bench check ioi`."""
    found = list(run_checks(lambda: TaskCase(name), CHECKS))
    assert [outcome for outcome in found if outcome.problem] == []


def test_training_names_entities_and_shifted_prompts_are_in_other_words(case: TaskCase) -> None:
    """If it named none, that held-out splits name none of training's would say nothing."""
    pairs = case.encoded.batches["train"].pairs
    texts = [f"{one.clean}|{one.corrupted}|{one.answer}|{one.foil}" for one in pairs]
    assert any(re.search(rf"\b{re.escape(e)}\b", text) for text in texts for e in case.entities)
    test, shifted = (case.encoded.batches[split].pairs for split in ("test", "shifted"))
    assert all(a.corrupted != b.corrupted for a, b in zip(test, shifted, strict=True))


def test_every_row_has_one_bos_behind_its_padding(case: TaskCase) -> None:
    for batch in case.encoded.batches.values():
        assert batch.tokens.shape == batch.corrupted.shape
        assert (batch.tokens != batch.corrupted).any(axis=1).all()
        for tokens in (batch.tokens, batch.corrupted):
            assert ((tokens == BOS).sum(axis=1) == 1).all()
            for row, length in zip(tokens, batch.lengths, strict=True):
                assert row[-length] == BOS
                assert (row[:-length] == PADDING).all()
                assert (row[-length:] != PADDING).all()


def test_answer_and_foil_are_one_token_after_both_prompts(
    case: TaskCase, smollm2_tokenizer: Any
) -> None:
    for batch in case.encoded.batches.values():
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
