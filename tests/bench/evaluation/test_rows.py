"""How many rows a forward has, and what happens where memory does not do for them."""

import logging
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.evaluation import rows as module
from bench.evaluation.rows import bytes_per_row, rows_at_hand, sharing, used_rows, within_memory
from bench.models.tiny import tiny_bridge
from bench.store.records import CellRecord
from methods.core.memory import is_out_of_memory
from methods.core.subject import SubjectModel

BRIDGE = cache(tiny_bridge)


def subject(rows: int = 32) -> SubjectModel:
    return SubjectModel(BRIDGE("llama"), rows)


@pytest.mark.parametrize(("share_of_a_row", "rows"), [(0.1, 1), (2, 1), (20.5, 10), (1e6, 32)])
def test_rows_follow_from_the_memory_at_hand(
    monkeypatch: pytest.MonkeyPatch, share_of_a_row: float, rows: int
) -> None:
    """Half of the memory is for rows, at least one and at most what saves time."""
    model = subject()
    memory = int(share_of_a_row * bytes_per_row(model, 12))
    monkeypatch.setattr(module, "available_memory", lambda device: memory)
    assert rows_at_hand(model, 12) == rows


def test_the_estimate_is_what_a_backward_pass_keeps() -> None:
    """Bytes of all tensors that autograd saves for one more row, weights left out."""
    model = SubjectModel(tiny_bridge("llama", n_layers=6))
    weights = {p.data_ptr() for p in model.bridge.original_model.parameters()}

    def kept(rows: int) -> int:
        found: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        tokens = torch.ones((rows, 20), dtype=torch.int64)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            embedded = model.bridge.hook_dict["hook_embed"]
            with model.bridge.hooks(
                fwd_hooks=[(embedded.name, lambda h, hook: h.detach().requires_grad_())]
            ):
                logits = model.logits(tokens)
        del logits
        return sum(found.values())

    one_more = (kept(12) - kept(4)) / 8
    assert 0.5 < bytes_per_row(model, 20) / one_more < 2


def record(status: str, rows: int | None, task: str = "task", dtype: str = "float32") -> Any:
    return CellRecord.model_construct(
        status=status,
        task=task,
        settings={"model": {"dtype": dtype, "name": "m"}, "rows_per_forward": "auto"},
        provenance={"rows_per_forward": rows},
    )


def test_what_is_added_to_a_run_has_the_rows_of_what_is_there() -> None:
    """Of the same task and model; another dtype or a number in the matrix is another matter."""
    records = [record("done", 16), record("done", 8), record("failed", 2), record("done", 4, "b")]
    records += [record("done", None), record("done", 3, dtype="bfloat16")]
    used = used_rows(records)
    keys = [sharing(one.task, one.settings) for one in (records[0], records[3], records[5])]
    assert used == dict(zip(keys, (8, 4, 3), strict=True))
    settings = records[0].settings
    assert sharing("task", {**settings, "rows_per_forward": 2}) not in used
    assert sharing("task", {**settings, "model": {"name": "m", "dtype": "float32"}}) == keys[0]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_rows_are_halved_until_memory_does(
    error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tried = subject(24), []
    monkeypatch.setattr(module, "gc", SimpleNamespace(collect=lambda: tried.append(0)))

    def compute() -> str:
        tried.append(model.rows_per_forward)
        if model.rows_per_forward > 5:
            raise error
        return "done"

    with caplog.at_level(logging.WARNING):
        assert within_memory(model, compute) == "done"
    assert tried == [24, 0, 12, 0, 6, 0, 3]
    assert "going on with 3 rows a forward" in caplog.text
    assert within_memory(model, compute) == "done"
    assert tried[7:] == [3]


@pytest.mark.parametrize(("error", "rows"), [(MemoryError(), 1), (RuntimeError("shapes"), 2)])
def test_one_row_that_does_not_fit_is_the_end_and_other_errors_are_not_tried_again(
    error: Exception, rows: int
) -> None:
    def compute() -> None:
        raise error

    model = subject(2)
    with pytest.raises(type(error)):
        within_memory(model, compute)
    assert model.rows_per_forward == rows


def test_memory_that_really_runs_out_is_noticed() -> None:
    """An allocation that no machine has, as torch's own allocator refuses it."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**62, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
