"""A look at the memory at hand before something large is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from tasks.errors import UserInputError, message_of

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux keeps the limits of containers and of Slurm's jobs, and says which are ours."""


class NotEnoughMemoryError(UserInputError):
    """What was asked for does not fit into the memory at hand."""


def available_memory(device: torch.device) -> int:
    """Bytes that can still be taken on `device`."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return min([int(psutil.virtual_memory().available), *_left_of_limits()])


def _left_of_limits() -> Iterator[int]:
    """Bytes left of each limit that this process is under, of cgroups in version 1 and 2.

    A limit may be that of any group above the own one. In a container the path of the own group may
    be the host's, which is not there: then the container's root counts, which dask reads alone.
    """
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, names = CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = CGROUPS / "memory"
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        group = root / path.lstrip("/")
        while group.is_relative_to(root):
            if (left := _left_of(group, *names)) is not None:
                yield left
            group = group.parent


def _left_of(group: Path, limit: str, usage: str, cache: str) -> int | None:
    """Bytes left of a group's limit, where it has one; files that are only cached are not taken."""
    try:
        most = (group / limit).read_text().strip()
        if most == "max":
            return None
        used = int((group / usage).read_text())
        stated = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = next((int(value) for key, value in stated if key == cache), 0)
        return max(0, int(most) - used + cached)
    except (OSError, ValueError):
        return None


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
