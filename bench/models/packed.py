"""Makes a model faster on the CPU: packed weights, and freed memory that is kept.

PyTorch multiplies fp32 matrices by MKL, which on some CPUs does not use their widest vectors, and
reads the weights anew at every call. oneDNN with weights that were reordered once is about 1.5
times as fast there. Results differ by rounding (1e-5 in a logit); where there is no oneDNN, or the
weights are not fp32 on a CPU, nothing is changed.

glibc maps every block of some 100 KiB anew, and the system fills each page with zeros when it is
first touched, which takes part of the time of every forward. So it is told to keep what is freed.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch
from torch import Tensor, nn

LARGEST_OUTPUT = 16_384
"""Wider layers, which are unembeddings, are left alone: they see one row a prompt."""
TYPICAL_ROWS = 768
"""The layout is chosen for as many rows; any number works."""
MALLOC_OPTIONS = {-3: 32 * 2**20, -1: 2**31 - 1, -2: 64 * 2**20}
"""M_MMAP_THRESHOLD (glibc takes no larger one), M_TRIM_THRESHOLD and M_TOP_PAD, in bytes."""


def pack_linear_layers(model: nn.Module) -> int:
    """Lets the linear layers of a model on the CPU run from packed weights; gives their number.

    Forward and the gradient of the input are packed. A layer whose weight needs a gradient, or
    whose weight has changed since, is computed as ever.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return 0
    layers = [
        module for module in model.modules() if type(module) is nn.Linear and _can_be_packed(module)
    ]
    for layer in layers:
        layer.__dict__["forward"] = _PackedForward(layer)
    return len(layers)


def _can_be_packed(module: nn.Linear) -> bool:
    return (
        module.weight.dtype == torch.float32
        and module.weight.device.type == "cpu"
        and module.out_features <= LARGEST_OUTPUT
    )


class _PackedForward:
    """What stands in for `nn.Linear.forward` of one layer."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self.forward: Tensor | None = None
        self.backward: Tensor | None = None
        self.packed_from: tuple[Any, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """x W^T + b."""
        weight = self.layer.weight
        state = (weight.data_ptr(), weight._version, weight.dtype, weight.device)
        if not self.packed_from:
            self.packed_from = state
        if state != self.packed_from or weight.requires_grad or x.dtype != torch.float32:
            return nn.functional.linear(x, weight, self.layer.bias)
        result: Tensor = _PackedLinear.apply(x, self)  # type: ignore[no-untyped-call]
        return result

    def multiply(self, x: Tensor) -> Tensor:
        """x W^T + b from packed weights."""
        if self.forward is None:
            self.forward = _pack(self.layer.weight)
        return _linear(x, self.forward, self.layer.bias)

    def multiply_transposed(self, gradient: Tensor) -> Tensor:
        """gradient W from packed weights."""
        if self.backward is None:
            self.backward = _pack(self.layer.weight.t())
        return _linear(gradient, self.backward, None)


class _PackedLinear(torch.autograd.Function):
    """The packed product with its gradient in x; the frozen weights have none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: _PackedForward) -> Tensor:
        ctx.packed = packed
        return packed.multiply(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.packed.multiply_transposed(gradients[0].contiguous()), None


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(
        weight.detach().contiguous(), TYPICAL_ROWS
    )
    return packed


def _linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(
        x.contiguous(), packed, bias, "none", [], ""
    )
    return result


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to keep what is freed; False where there is another allocator."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl
        return False
    return all(mallopt(option, size) == 1 for option, size in MALLOC_OPTIONS.items())
