"""Chooses how many rows a forward has, and halves them where memory runs out."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch

from bench.store.records import CellRecord
from methods.core.memory import NotEnoughMemoryError, available_memory, is_out_of_memory
from methods.core.subject import SubjectModel
from tasks.errors import message_of

logger = logging.getLogger(__name__)

MOST_ROWS = {"cpu": 32, "cuda": 512}
"""More rows save no time: a CPU works at its full rate from about 16 rows of 24 tokens on."""
SHARE = 0.5
"""Of the memory at hand, what the activations of one training step may take."""

Found = TypeVar("Found")


def rows_at_hand(subject: SubjectModel, n_positions: int) -> int:
    """Rows of a training step, the largest of all forwards, that the memory at hand takes.

    Args:
        subject: the model.
        n_positions: tokens of the longest prompt.
    """
    most = MOST_ROWS.get(subject.device.type, MOST_ROWS["cuda"])
    size = bytes_per_row(subject, n_positions)
    return int(min(most, max(1, SHARE * available_memory(subject.device) // size)))


def bytes_per_row(subject: SubjectModel, n_positions: int) -> int:
    """About what one row keeps for the backward pass.

    In each layer some eight activations of width d_model (hooks included), three of the MLP's width
    and two attention patterns; and four times the last position's logits in fp32.
    """
    cfg = subject.bridge.cfg
    d_mlp = int(getattr(cfg, "d_mlp", None) or 4 * subject.d_model)
    layer = 8 * subject.d_model + 3 * d_mlp + 2 * int(cfg.n_heads) * n_positions
    width = max(subject.dtype.itemsize, 2)
    return subject.n_layers * n_positions * layer * width + 4 * 4 * int(cfg.d_vocab)


def used_rows(records: Iterable[CellRecord]) -> dict[str, int]:
    """What cells share (see `sharing`) -> rows that finished ones had; the fewest of several.

    What is added to a run is computed with the same, so that its numbers are those of a run in
    one go, to the bit.
    """
    used: dict[str, int] = {}
    for record in records:
        rows = record.provenance.get("rows_per_forward")
        if record.status == "done" and isinstance(rows, int):
            key = sharing(record.task, record.settings)
            used[key] = min(rows, used.get(key, rows))
    return used


def sharing(task: str, settings: Mapping[str, Any]) -> str:
    """Cells of which this is equal have their rows in common: model, task and the matrix's word."""
    parts = [task, settings["model"], settings.get("rows_per_forward")]
    return json.dumps(parts, sort_keys=True)


def within_memory(subject: SubjectModel, compute: Callable[[], Found]) -> Found:
    """Computes, and computes again with half the rows a forward whenever memory runs out.

    The subject keeps the smaller number for what comes after. In half precision numbers depend on
    it, so there it is not changed.

    Raises:
        NotEnoughMemoryError: in half precision, if memory does not do; says what would take less.
        torch.OutOfMemoryError, MemoryError, RuntimeError: if memory does not even do for one row.
    """
    while True:
        try:
            return compute()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or subject.rows_per_forward == 1:
                raise
            if not subject.is_exact:
                raise NotEnoughMemoryError(
                    f"Memory ran out with {subject.rows_per_forward} rows a forward. In half "
                    "precision numbers depend on the rows, so no fewer are taken by themselves: "
                    f"`rows_per_forward: {subject.rows_per_forward // 2}` in the matrix asks for "
                    "that, as other cells."
                ) from error
            reason = (message_of(error).splitlines() or [""])[0]
        # Outside the handler, which would hold on to the tensors of the failed forward.
        subject.rows_per_forward = max(1, subject.rows_per_forward // 2)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logger.warning(
            "memory ran out (%s); going on with %d rows a forward", reason, subject.rows_per_forward
        )
