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
from tests.small import brief_matrix

CHANGES = {
    "hook": ("bridge.blocks[0].mlp.register_forward_hook(lambda m, i, o: None)",
             r"hooks \(blocks.0.mlp\)"),
    "their_hook": ("bridge.blocks[0].hook_mlp_out.add_hook(lambda h, hook: 1.5 * h)",
                   r"hooks \(blocks.0.mlp.hook_out\)"),
    "weight": ("weights[-1].requires_grad_(False).view(-1)[:8].zero_()",
               r"weights \(unembed.weight\)"),
    "data": ("weights[6].data.view(-1)[:8] = 0", r"weights \(blocks.0"),
    "in_numpy": ("weights[6].numpy()[[0, 1]] = weights[6].numpy()[[1, 0]]",
                 r"weights \(blocks.0"),
    "swapped": ("bridge.blocks[1].mlp = torch.nn.Identity()", r"hooks \("),
    "buffer": ("[b for b in model.buffers() if b.is_floating_point()][0].mul_(2)", r"weights \("),
    "rewritten": ("weights[6].view(-1)[:8].mul_(1)", r"weights \(blocks.0"),
    "threads": ("torch.set_num_threads(torch.get_num_threads() + 1)", "number of threads"),
    "needs_gradient": ("model.requires_grad_(True)", r"requires_grad \(.* and \d+ more\)"),
    "train_mode": ("model.train()", "train mode"),
    "no_gradients": ("torch.set_grad_enabled(False)", "grad mode: False instead of True"),
    "inference": ("globals().setdefault('kept', torch.inference_mode()).__enter__()",
                  "inference mode: True instead of False"),
    "default_dtype": ("torch.set_default_dtype(torch.float64)", "default dtype: torch.float64"),
    "prompt": ("prompts.tokens[0, 2].add_(1)", r"weights \(prompts.tokens\)"),
    "grid": ("grid.included[0, 0, 0].logical_not_()", r"weights \(grid.included\)"),
}  # fmt: skip
UNDONE = {
    "drawing": "(torch.rand(3), random.random(), torch.manual_seed(7))",
    "undone": "bridge.blocks[0].mlp.register_forward_hook(lambda m, i, o: None).remove()",
}
METHOD = '''
@dataclass(frozen=True)
class M{name}(GradScalar):
    """Leaves something."""
    def fit(self, subject, prompts, grid, setting):
        found = super().fit(subject, prompts, grid, setting)
        bridge, model = subject.bridge, subject.bridge.original_model
        weights = list(model.parameters())
        {statement}
        return found
'''


def write_plugin(file: Path, statements: dict[str, str]) -> list[str]:
    """Methods that do these things after their fit; behind every third one that does nothing."""
    each = {}
    for at, (name, statement) in enumerate(statements.items()):
        each[name] = statement
        if at % 3 == 2:
            each[f"after_{name}"] = "pass"
    table = ", ".join(f'"{name}": M{name}' for name in each)
    file.write_text(
        "import random\nimport torch\nfrom dataclasses import dataclass\n"
        "from methods.grad_scalar import GradScalar\n"
        + "".join(METHOD.format(name=name, statement=text) for name, text in each.items())
        + f"\nMETHODS = {{{table}}}\n"
    )
    return list(each)


Run = dict[str, Cell]
"""Method -> its cell."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Run:
    """One run of all of them."""
    folder = tmp_path_factory.mktemp("left")
    statements = {name: statement for name, (statement, _) in CHANGES.items()} | UNDONE
    names = write_plugin(folder / "theirs.py", statements)
    matrix = brief_matrix(
        tiny_folder,
        methods=["grad_scalar", *names],
        plugins=[str(folder / "theirs.py")],
        controls={"draws": 0},
        prompts={"train": 1, "test": 1, "shifted": 0},
    )
    store = run_matrix(matrix, folder / "run").store
    cells = [store.read(name) for name in store.ids()]
    return {cell.record.method: cell for cell in cells}


@pytest.mark.parametrize("name", CHANGES)
def test_a_cell_that_leaves_something_fails_and_says_what_and_where(name: str, run: Run) -> None:
    error = run[name].record.error
    assert error is not None
    assert error.kind == "LeftBehindError"
    assert f"the method {name} left changed: " in error.message
    assert re.search(CHANGES[name][1], error.message), error.message


@pytest.mark.parametrize("name", [*CHANGES, *UNDONE][2::3])
def test_the_cell_after_them_has_the_numbers_of_a_run_without_them(name: str, run: Run) -> None:
    expected, found = run["grad_scalar"], run[f"after_{name}"]
    assert found.record.metrics == expected.record.metrics
    assert found.tensors.keys() == expected.tensors.keys()
    for key, tensor in expected.tensors.items():
        assert tensor.tobytes() == found.tensors[key].tobytes()


@pytest.mark.parametrize("name", UNDONE)
def test_what_is_undone_or_changes_nothing_is_no_failure(name: str, run: Run) -> None:
    assert run[name].record.status == "done"


def test_what_a_fit_leaves_that_breaks_is_noted_and_undone(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: Any, subject: Any, *rest: Any) -> Any:
        subject.bridge.blocks[0].mlp.register_forward_hook(lambda *_: None)
        torch.set_default_dtype(torch.float64)
        raise ValueError("in the middle")

    matrix = brief_matrix(tiny_folder, methods=["grad_scalar", "dla"], controls={"draws": 0})
    expected = run_matrix(matrix, tmp_path / "clean").store
    monkeypatch.setattr(GradScalar, "fit", breaks)
    outcome = run_matrix(matrix, tmp_path / "run")
    (failed,) = outcome.failed
    assert failed.error is not None
    assert (failed.error.kind, failed.error.message) == ("ValueError", "in the middle")
    assert "also left changed: " in failed.error.log
    assert "hooks (blocks.0.mlp); default dtype: torch.float64" in failed.error.log
    (name,) = outcome.computed
    one, other = expected.read(name).tensors, outcome.store.read(name).tensors
    assert all(one[key].tobytes() == other[key].tobytes() for key in one)


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
    def draw() -> tuple[float, float, float]:
        return float(torch.rand(1)), random.random(), float(np.random.random())

    def seed() -> None:
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)

    seed()
    expected = draw()
    seed()
    with seeded(1):
        first = draw()
    with seeded(1):
        assert draw() == first
    assert draw() == expected
