"""Tensors that nobody may change, and a sum over their bits that says whether somebody did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Weight(NamedTuple):
    """What is known of a tensor without looking at its numbers.

    Attributes:
        place: address of its first number, shape, strides and dtype.
        version: how often torch wrote to it; a write through `.data` or numpy is not counted.
        needs_gradient: its `requires_grad`.
        has_gradient: whether it has a `.grad`.
    """

    place: tuple[object, ...]
    version: int
    needs_gradient: bool
    has_gradient: bool

    @staticmethod
    def of(tensor: Tensor) -> Weight:
        """As it is now."""
        stride = tensor.stride() if tensor.layout is torch.strided else None
        place = (tensor.data_ptr(), tuple(tensor.shape), stride, tensor.dtype)
        version = -1 if tensor.is_inference() else tensor._version
        needs = tensor.requires_grad
        return Weight(place, version, needs, tensor.is_leaf and tensor.grad is not None)


class Weights:
    """Tensors by name as they were found.

    Their numbers are compared by `bit_sums`: every number is read once, which takes about as long
    as one forward of one short prompt does.
    """

    def __init__(self, tensors: Sequence[tuple[str, Tensor]]) -> None:
        self.tensors = tensors
        self.found = self._now()
        self.sums = self._sums()

    def changes(self) -> dict[str, list[str]]:
        """Kind of thing that is otherwise than it was -> the tensors' names."""
        differences: dict[str, list[str]] = {}
        now, sums = self._now(), self._sums()
        for at, (name, _) in enumerate(self.tensors):
            before, after = self.found[at], now[at]
            for what, differs in (
                ("weights", before.place != after.place or self.sums[at] != sums[at]),
                ("requires_grad", before.needs_gradient != after.needs_gradient),
                ("gradients", before.has_gradient != after.has_gradient),
            ):
                if differs:
                    differences.setdefault(what, []).append(name)
        return differences

    def was_written_to(self) -> bool:
        """Whether torch wrote to a tensor, be it the numbers that were there before."""
        pairs = zip(self.found, self._now(), strict=True)
        return any(before.version != after.version for before, after in pairs)

    def _now(self) -> list[Weight]:
        return [Weight.of(tensor) for _, tensor in self.tensors]

    def _sums(self) -> list[tuple[int, ...]]:
        with torch.inference_mode(False), torch.no_grad():
            sums = [bit_sums(tensor.detach()) for _, tensor in self.tensors]
            found: list[tuple[int, ...]] = [()] * len(sums)
            for device in {one.device for one in sums}:  # one transfer a device
                rows = [at for at, one in enumerate(sums) if one.device == device]
                together = torch.stack([sums[at] for at in rows]).tolist()
                for at, pair in zip(rows, together, strict=True):
                    found[at] = tuple(pair)
        return found


def bit_sums(tensor: Tensor) -> Tensor:
    """Two sums (mod 2^64) over the bits of a tensor, read as integers in rows and columns.

    The sum of each row is weighted by the row's number, that of each column by the column's: a
    single other bit always shows, and so do numbers that change places, unless they keep both every
    row's and every column's sum.
    """
    if tensor.numel() == 0 or tensor.layout is not torch.strided:
        return torch.zeros(2, dtype=torch.int64, device=tensor.device)
    whole = tensor.contiguous()
    if whole.data_ptr() % torch.int64.itemsize:
        whole = whole.clone()
    table = whole.reshape(-1, whole.shape[-1] if whole.dim() > 1 else whole.numel())
    words = table.view(torch.uint8)
    for wide in (torch.int64, torch.int32, torch.int16):
        if words.shape[1] % wide.itemsize == 0:
            words = words.view(wide)
            break
    by_row, by_column = (words.sum(dim, dtype=torch.int64) for dim in (1, 0))
    return torch.stack([_weighted(by_row), _weighted(by_column)])


def _weighted(sums: Tensor) -> Tensor:
    odd = 2 * torch.arange(len(sums), device=sums.device) + 1
    return (sums * odd).sum()
