"""Small matrices over a tiny model whose tokenizer knows every word of the tasks."""

import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

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
