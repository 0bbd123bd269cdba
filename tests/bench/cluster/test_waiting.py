"""Which cell a worker gets, and that it costs the same however many cells there are."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.cluster.waiting import Waiting, needs

from bench.execution.tally import Tally
from bench.matrix.cells import PlannedCell, expand
from tests.small import small_matrix

CPU = frozenset({"cpu"})
GPU = frozenset({"cpu", "cuda"})


def cells_of(n_draws: int = 1, **changes: object) -> list[PlannedCell]:
    """Cells of two models, the first on the CPU, the second on CUDA, with their controls."""
    models = [{"name": "small", "device": "cpu"}, {"name": "large", "device": "cuda"}]
    matrix = small_matrix("unused", models=models, controls={"draws": n_draws}, **changes)
    return expand(matrix, lambda name: name, lambda device: device)


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


def all_in_turn(cells: list[PlannedCell]) -> list[PlannedCell]:
    waiting, order = Waiting(cells), []
    while waiting:
        cell = waiting.take(GPU, None)
        assert cell is not None
        order.append(cell)
        waiting.finished(cell)
    return order


def test_cells_come_in_the_order_of_the_matrix() -> None:
    cells = cells_of(3)
    assert all_in_turn(cells) == cells


def test_a_child_waits_for_its_parent() -> None:
    cells = cells_of(2)
    waiting = Waiting(cells)
    taken = []
    while (cell := waiting.take(GPU, None)) is not None:
        taken.append(cell)
    assert not any(cell.parent for cell in taken)
    parent = next(cell for cell in taken if cell.method.name == "grad_scalar")
    waiting.finished(parent)
    children = [cell for cell in cells if cell.parent == parent.id]
    assert [waiting.take(GPU, None), waiting.take(GPU, None)] == children
    assert not waiting


def test_cells_on_cuda_are_only_for_workers_that_have_it() -> None:
    waiting = Waiting(cells_of())
    found = []
    while (cell := waiting.take(CPU, None)) is not None:
        found.append(cell)
        waiting.finished(cell)
    assert {cell.model.name for cell in found} == {"small"}
    assert waiting.kinds == {"cuda"}
    assert waiting.take(GPU, None) is not None


def test_a_worker_keeps_to_the_model_that_it_has_loaded() -> None:
    cells = cells_of(seeds=[0, 1])
    waiting = Waiting(cells)
    loaded = ("large", "cuda")
    large = [cell for cell in cells if needs(cell) == loaded and cell.parent is None]
    taken = [waiting.take(GPU, loaded) for _ in large]
    assert taken == large
    following = waiting.take(GPU, loaded)
    assert following is not None
    assert following.model.name == "small"


def test_what_comes_back_is_next() -> None:
    waiting = Waiting(cells_of())
    first, _ = waiting.take(CPU, None), waiting.take(CPU, None)
    assert first is not None
    waiting.put(first)
    assert waiting.take(CPU, None) is first


def test_giving_out_ten_times_the_cells_takes_ten_times_the_steps() -> None:
    few, many = cells_of(50), cells_of(500)
    assert len(many) > 2000
    random.Random(0).shuffle(many)
    assert steps(lambda: all_in_turn(many)) / len(many) < 1.5 * (
        steps(lambda: all_in_turn(few)) / len(few)
    )


def test_a_tally_counts_and_knows_the_time_that_is_left(tiny_folder: Path) -> None:
    cells = expand(small_matrix(tiny_folder), lambda name: name, lambda device: device)
    assert len(cells) == 4
    tally = Tally(cells, now=100.0)
    assert tally.in_words(now=100.0) == "0 of 4 done"
    tally.starts(cells[0])
    tally.starts(cells[1])
    assert tally.in_words(now=110.0) == "0 of 4 done, 2 running"
    tally.ends(cells[0], failed=False)
    rows = tally.rows
    rest = sum(rows[cell.id] for cell in cells[1:])
    assert tally.seconds_left(now=160.0) == pytest.approx(60 / rows[cells[0].id] * rest)
    tally.waits(cells[1])
    tally.ends(cells[1], failed=True)
    # What fails at once says nothing about the pace of the others.
    left = rest - rows[cells[1].id]
    assert tally.seconds_left(now=160.0) == pytest.approx(60 / rows[cells[0].id] * left)
    assert tally.in_words(now=160.0).startswith("1 of 4 done, 1 failed, about ")
    for cell in cells[2:]:
        tally.ends(cell, failed=False)
    assert tally.in_words(now=200.0) == "3 of 4 done, 1 failed"
