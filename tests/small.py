"""Small matrices over a tiny model whose tokenizer knows every word of the tasks."""

import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from bench.matrix.cells import PlannedCell, expand
from bench.matrix.schema import Matrix
from bench.matrix.yaml_file import parse
from tasks import TASKS


def task_texts() -> list[str]:
    """Prompts of every task and split, answers and corruptions included."""
    texts = []
    for name, entry in TASKS.items():
        if name == "file":
            continue  # it has no words of its own
        task = entry.load()()
        for split in ("train", "test", "shifted"):
            for pair in islice(task.candidates(split, list(task.entities()), 0), 400):
                texts += [pair.clean + pair.answer, pair.corrupted + pair.foil]
    return texts


RunOf = Callable[..., Any]
"""What the fixture `run_of` of the tests of `bench` gives."""


def small_matrix(folder: Path | str, **changes: object) -> Matrix:
    """A matrix that takes seconds on a tiny model."""
    return parse(
        {
            "models": [{"name": str(folder), "device": "cpu"}],
            "tasks": ["ioi"],
            "methods": ["grad_scalar", {"name": "activ_scalar", "epochs": 3}],
            "controls": {"draws": 1, "shuffle_trained": False},
            "prompts": {"train": 2, "test": 3, "shifted": 3},
            "sweep": {"points": 5},
            "prices": {"at": [0.3], "curve": False},
            "localisation": {"k": []},
            "agreement": {"resamples": 20},
            "figures": ["leaderboard"],
            **changes,
        },
        "test",
    )


def brief_matrix(folder: Path | str, **changes: object) -> Matrix:
    """That matrix with half the forwards: for what is about neither prices nor the smallest k."""
    prices = {"at": [], "curve": False}
    return small_matrix(folder, **{"prices": prices, "smallest_k": False, **changes})


def planned(matrix: Matrix) -> list[PlannedCell]:
    """Its cells, without a look at its models."""
    return expand(matrix, lambda name: "digest", lambda device: "cpu")


def matrix_of(folder: Path | str, *methods: object, **changes: object) -> Matrix:
    """The same of a cell a method (GradScalar's alone, where none is named), without controls."""
    few = {"methods": [*methods] or ["grad_scalar"], "controls": {"draws": 0}}
    return brief_matrix(folder, **{**few, **changes})


def plug_in(file: Path, statements: dict[str, str], before: str = "") -> str:
    """A file of methods that run GradScalar's fit, whose result is `found`, and then a statement.

    Args:
        file: where it is written.
        statements: by the methods' names.
        before: code that they need.

    Returns:
        its path.
    """
    code = "import torch\nfrom dataclasses import dataclass, replace\n"
    code += f"from methods.grad_scalar import GradScalar\n{before}\n"
    for name, statement in statements.items():
        code += f"@dataclass(frozen=True)\nclass M{name}(GradScalar):\n    'Of somebody else.'\n"
        code += "    def fit(self, subject, prompts, grid, setting):\n"
        code += "        found = super().fit(subject, prompts, grid, setting)\n"
        code += f"        {statement}\n        return found\n"
    names = ", ".join(f"{name!r}: M{name}" for name in statements)
    file.write_text(f"{code}METHODS = {{{names}}}\n")
    return str(file)


def steps(work: Callable[[], object]) -> int:
    """How many calls and lines of Python some work takes."""
    count = 0

    def trace(*_: object) -> object:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def failing(patch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Has every fit of GradScalar raise this."""
    from methods.grad_scalar import GradScalar

    def fit(*arguments: object) -> None:
        raise error

    patch.setattr(GradScalar, "fit", fit)
