"""A look at the memory at hand before something large is made."""

from __future__ import annotations

import psutil
import torch

from tasks.errors import UserInputError, message_of


class NotEnoughMemoryError(UserInputError):
    """What was asked for does not fit into the memory at hand."""


def available_memory(device: torch.device) -> int:
    """Bytes that can still be taken on `device`."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return int(psutil.virtual_memory().available)


def require_memory(size: int, device: torch.device, what: str, remedy: str) -> None:
    """Checks that `size` bytes are at hand on `device`.

    Raises:
        NotEnoughMemoryError: names what was wanted, how much it takes and what would take less.
    """
    available = available_memory(device)
    if size > available:
        raise NotEnoughMemoryError(
            f"Not enough memory: {what} take {size / 2**30:.1f} GiB, and {device} has "
            f"{available / 2**30:.1f} GiB left. Use {remedy}."
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; torch's allocator on the CPU raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in message_of(error)
    )
