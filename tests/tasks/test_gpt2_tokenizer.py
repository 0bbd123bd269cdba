"""Every task, and every preset at the paper's size, under the tokenizer of the paper's models."""

from typing import Any

import pytest

from bench.matrix.cells import expand
from bench.matrix.config import load_suite
from tasks import TASKS
from tasks.arithmetic import Arithmetic
from tasks.encoding import encode
from tasks.errors import UserInputError
from tasks.greater_than import GreaterThan
from tasks.task import Task

BOS = 50256
SIZES = {"train": 4, "test": 12, "shifted": 12}
BY_SETTING = {"greater_than": GreaterThan(digits=2), "arithmetic": Arithmetic(spaced=True)}
"""Tasks whose default settings are for tokenizers that take every digit alone."""


@pytest.mark.parametrize("name", [name for name in TASKS if name != "file"])
def test_every_task_can_be_asked(name: str, gpt2_tokenizer: Any) -> None:
    task: Task = BY_SETTING.get(name) or TASKS[name].load()()
    encoded = encode(task, gpt2_tokenizer, SIZES, BOS, seed=0)
    assert {split: len(batch) for split, batch in encoded.batches.items()} == SIZES


@pytest.mark.parametrize("name", BY_SETTING)
def test_digits_that_are_no_tokens_are_said(
    name: str, gpt2_tokenizer: Any, smollm2_tokenizer: Any
) -> None:
    for task, tokenizer in (
        (TASKS[name].load()(), gpt2_tokenizer),
        (BY_SETTING[name], smollm2_tokenizer),
    ):
        with pytest.raises(UserInputError, match="the answer is not one token"):
            encode(task, tokenizer, SIZES, None, seed=0)


def test_years_are_compared_by_their_last_two_digits(gpt2_tokenizer: Any) -> None:
    batch = encode(GreaterThan(digits=2), gpt2_tokenizer, SIZES, BOS, seed=0).batches["test"]
    for pair in batch.pairs:
        assert f"year {pair.entity} to" in pair.clean
        assert "year 1701 to" in pair.corrupted
        assert 1 <= int(pair.foil) < int(pair.entity[2:]) < int(pair.answer) <= 99
        assert len(pair.answer) == len(pair.foil) == 2


def test_every_preset_has_enough_prompts_at_the_papers_size(gpt2_tokenizer: Any) -> None:
    suite = load_suite("paper", size="paper")
    asked = {
        (cell.task.label, *cell.prompts.sizes.values()): (name, cell)
        for name, matrix in suite.matrices.items()
        for cell in expand(matrix, lambda model: model, lambda device: "cpu")
    }
    assert len(asked) > 5
    for name, cell in asked.values():
        encoded = encode(cell.task.task, gpt2_tokenizer, cell.prompts.sizes, BOS, cell.prompts.seed)
        if name != "fig6":  # whose mixture is of several lengths, which dyn_scalar takes
            assert len(encoded.lengths) == 1, cell.task.label
