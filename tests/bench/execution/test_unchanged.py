"""What a method leaves behind fails its cell, and goes into no number of the cells after it."""

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.execution.run import run_matrix
from bench.execution.unchanged import _checksum, seeded
from bench.store.cells import Cell
from methods.grad_scalar import GradScalar
from tests.small import RunOf, matrix_of, plug_in

BEFORE = """
import random
def model(subject): return subject.bridge.original_model
def weights(subject): return list(model(subject).parameters())
"""
CHANGES = {
    "hook": ("subject.bridge.blocks[0].mlp.register_forward_hook(lambda m, i, o: None)",
             r"hooks \(blocks.0.mlp\)"),
    "their_hook": ("subject.bridge.blocks[0].hook_mlp_out.add_hook(lambda h, hook: 1.5 * h)",
                   r"hooks \(blocks.0.mlp.hook_out\)"),
    "weight": ("weights(subject)[-1].requires_grad_(False).view(-1)[:8].zero_()",
               r"weights \(unembed.weight\)"),
    "data": ("weights(subject)[6].data.view(-1)[:8] = 0", r"weights \(blocks.0"),
    "in_numpy": ("w = weights(subject)[6].numpy(); w[[0, 1]] = w[[1, 0]]", r"weights \(blocks.0"),
    "swapped": ("subject.bridge.blocks[1].mlp = torch.nn.Identity()", r"hooks \("),
    "buffer": ("[b for b in model(subject).buffers() if b.is_floating_point()][0].mul_(2)",
               r"weights \("),
    "rewritten": ("weights(subject)[6].view(-1)[:8].mul_(1)", r"weights \(blocks.0"),
    "threads": ("torch.set_num_threads(torch.get_num_threads() + 1)", "number of threads"),
    "needs_gradient": ("model(subject).requires_grad_(True)",
                       r"requires_grad \(.* and \d+ more\)"),
    "train_mode": ("model(subject).train()", "train mode"),
    "no_gradients": ("torch.set_grad_enabled(False)", "grad mode: False instead of True"),
    "inference": ("globals().setdefault('kept', torch.inference_mode()).__enter__()",
                  "inference mode: True instead of False"),
    "default_dtype": ("torch.set_default_dtype(torch.float64)", "default dtype: torch.float64"),
    "prompt": ("prompts.tokens[0, 2].add_(1)", r"weights \(prompts.tokens\)"),
    "grid": ("grid.included[0, 0, 0].logical_not_()", r"weights \(grid.included\)"),
}  # fmt: skip
"""By what a method leaves: how, and how that is named."""
UNDONE = {
    "drawing": "(torch.rand(3), random.random(), torch.manual_seed(7))",
    "undone": "subject.bridge.blocks[0].mlp.register_forward_hook(lambda m, i, o: None).remove()",
}

Run = dict[str, Cell]
"""Method -> its cell."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Run:
    """One run of all of them, behind every third one a method that leaves nothing."""
    folder, each = tmp_path_factory.mktemp("left"), dict[str, str]()
    statements = {name: statement for name, (statement, _) in CHANGES.items()} | UNDONE
    for at, (name, statement) in enumerate(statements.items()):
        each |= {name: statement} | ({f"after_{name}": "pass"} if at % 3 == 2 else {})
    few = {"prompts": {"train": 1, "test": 1, "shifted": 0}, "sweep": {"points": 3}}
    plugins = [plug_in(folder / "theirs.py", each, BEFORE)]
    matrix = matrix_of(tiny_folder, "grad_scalar", *each, plugins=plugins, **few)
    store = run_matrix(matrix, folder / "run").store
    return {cell.record.method: cell for cell in map(store.read, store.ids())}


@pytest.mark.parametrize("name", CHANGES)
def test_a_cell_that_leaves_something_fails_and_says_what_and_where(name: str, run: Run) -> None:
    error = run[name].record.error
    assert error is not None
    assert error.kind == "LeftBehindError"
    assert re.search(f"the method {name} left changed: .*{CHANGES[name][1]}", error.message)


@pytest.mark.parametrize("name", [*CHANGES, *UNDONE][2::3])
def test_the_cell_after_them_has_the_numbers_of_a_run_without_them(name: str, run: Run) -> None:
    expected, found = run["grad_scalar"], run[f"after_{name}"]
    assert found.record.metrics == expected.record.metrics
    assert same(expected, found)


def same(one: Cell, other: Cell) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        tensor.tobytes() == other.tensors[key].tobytes() for key, tensor in one.tensors.items()
    )


@pytest.mark.parametrize("name", UNDONE)
def test_what_is_undone_or_changes_nothing_is_no_failure(name: str, run: Run) -> None:
    assert run[name].record.status == "done"


def test_what_a_fit_leaves_that_breaks_is_noted_and_undone(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: Any, subject: Any, *rest: Any) -> Any:
        subject.bridge.blocks[0].mlp.register_forward_hook(lambda *_: None)
        torch.set_default_dtype(torch.float64)
        raise ValueError("in the middle")

    expected = run_of("grad_scalar", "dla", to="clean").store
    monkeypatch.setattr(GradScalar, "fit", breaks)
    outcome = run_of("grad_scalar", "dla")
    (failed,), (name,) = outcome.failed, outcome.computed
    assert failed.error is not None
    assert (failed.error.kind, failed.error.message) == ("ValueError", "in the middle")
    assert "also left changed: hooks (blocks.0.mlp); default dtype: torch" in failed.error.log
    assert same(expected.read(name), outcome.store.read(name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.uint8])
@pytest.mark.parametrize("shape", [(), (5,), (3, 7), (2, 3, 64)])
def test_a_checksum_notices_every_other_number(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randint(1, 100, shape, generator=generator).to(dtype)
    before = _checksum(tensor)
    assert _checksum(tensor.clone()) == before
    for at in range(tensor.numel()):
        other = tensor.clone()
        other.view(-1)[at] += 1
        assert _checksum(other) != before


def test_what_a_process_draws_in_common_follows_from_the_seed_and_is_as_before() -> None:
    def draw() -> list[float]:
        return [float(torch.rand(1)), random.random(), float(np.random.random())]

    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(3)
    before = [draw(), draw()]
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(3)
    first = draw()
    inside = []
    for _ in range(2):
        with seeded(1):
            inside.append(draw())
    assert inside[0] == inside[1] != first
    assert [first, draw()] == before
