"""Whether a cell leaves the model, its prompts and torch as it found them.

Cells of a run share a model and a process. A hook that stays, a weight that is set or a grad mode
that is changed by mistake would go into every number after it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from methods.core.subject import SubjectModel

HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("fwd_hooks", "bwd_hooks"),
)
"""Where torch's modules, and TransformerLens's hook points, keep what is hooked."""
SHOWN = 3
"""Places that are named of each kind of change."""


class LeftBehindError(RuntimeError):
    """A method did not leave the model, its prompts or torch as it found them."""


@contextmanager
def left_unchanged(
    subject: SubjectModel,
    who: str,
    tensors: Mapping[str, Tensor] | None = None,
    *,
    checksum: bool = False,
) -> Iterator[list[str]]:
    """Looks at the block's end for what is otherwise than at its start.

    Hooks, train mode and weights of the model, `tensors`, and torch's modes (`modes_kept`), which
    are put back; a model that was changed has to be loaded anew.

    Args:
        subject: the model; it has run once, since the bridge adds hooks of its own then.
        who: the method or task whose block it is, as a user knows it.
        tensors: further tensors that nobody may write to, by name.
        checksum: read all weights too. Without, a write is found by torch's own count of writes,
            which leaves out those through `.data` and numpy. A write that puts back what was there
            counts: layers with packed weights are computed without them from there on.

    Yields:
        A list that holds, after the block, what is otherwise: empty if nothing is.

    Raises:
        LeftBehindError: if something is otherwise. An error of the block's stays that error: what
            was left besides is a note on it.
    """
    watched = {**_weights(subject), **(tensors or {})}
    before, left = _state(subject, watched, checksum), list[str]()
    with modes_kept():
        try:
            yield left
        except BaseException as error:
            left += _changes(before, _state(subject, watched, checksum))
            if left:
                error.add_note(f"{who} also left changed: {'; '.join(left)}")
            raise
        left += _changes(before, _state(subject, watched, checksum))
    if left:
        raise LeftBehindError(
            f"{who} left changed: {'; '.join(left)}. What comes after it would be computed with "
            "that; whatever is changed has to be undone, also where something breaks, and weights "
            "are not written to at all."
        )


@contextmanager
def modes_kept() -> Iterator[None]:
    """Puts back grad mode, inference mode, default dtype and number of threads at the block's end.

    Sums of floats depend on the number of threads, so later cells would have other last digits.
    """
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    try:
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """In the block the generators that a process has in common (torch, numpy, Python) are seeded.

    At its end they are as before. The suite draws from generators of its own; a method that draws
    from these gives numbers that depend on its cell alone, not on what was computed before it.
    """
    before = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def _modules(subject: SubjectModel) -> dict[str, nn.Module]:
    """Every module of the bridge and of the model behind it, once, by its shortest name."""
    found: dict[int, tuple[str, nn.Module]] = {}
    for root in (subject.bridge, subject.bridge.original_model):
        for name, module in root.named_modules():
            # A part of the bridge and what it is a bridge to are one thing to whoever reads this.
            called = ".".join(part for part in name.split(".") if part != "_original_component")
            found.setdefault(id(module), (called or "the model", module))
    return {f"{name}#{key}": module for key, (name, module) in found.items()}


def _weights(subject: SubjectModel) -> dict[str, Tensor]:
    """Every parameter and buffer, once, by name."""
    named: dict[int, tuple[str, Tensor]] = {}
    for name, module in _modules(subject).items():
        for key, tensor in {**module._parameters, **module._buffers}.items():
            if tensor is not None:
                named.setdefault(id(tensor), (f"{name.partition('#')[0]}.{key}", tensor))
    return {f"{name}#{key}": tensor for key, (name, tensor) in named.items()}


State = dict[tuple[str, str], object]
"""(Kind of thing, where) -> what it is; torch's modes are nowhere."""


def _state(subject: SubjectModel, tensors: Mapping[str, Tensor], checksum: bool) -> State:
    found: State = {(mode, ""): value for mode, value in _modes().items()}
    for name, module in _modules(subject).items():
        found["train mode", name] = module.training
        hooked = [vars(module).get(kind) or () for kind in HOOKS]
        found["hooks", name] = [
            id(hook)
            for kind in hooked
            for hook in (kind.values() if isinstance(kind, dict) else kind)
        ]
        found["weights", name] = [id(parameter) for parameter in module._parameters.values()]
    for name, tensor in tensors.items():
        version = -1 if tensor.is_inference() else tensor._version
        numbers = _checksum(tensor) if checksum else None
        found["weights", name] = tensor.data_ptr(), version, tensor.shape, tensor.dtype, numbers
        found["requires_grad", name] = tensor.requires_grad
        found["gradients", name] = tensor.is_leaf and tensor.grad is not None
    return found


def _checksum(tensor: Tensor) -> tuple[int, int]:
    """Two sums over a tensor's bits, weighted by row and by column, that any other number changes.

    Every number is read once, which takes about as long as a forward of one short prompt.
    """
    data = tensor.detach().contiguous().view(-1).view(torch.uint8)
    whole = nn.functional.pad(data, (0, -len(data) % 512)).view(torch.int64).view(-1, 64)
    by_row, by_column = (_weighted(whole.sum(dim, dtype=torch.int64)) for dim in (1, 0))
    return by_row, by_column


def _weighted(sums: Tensor) -> int:
    odd = 2 * torch.arange(len(sums), device=sums.device) + 1
    return int((sums * odd).sum())


def _modes() -> dict[str, object]:
    return {
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "number of threads": torch.get_num_threads(),
    }


def _changes(before: State, after: State) -> list[str]:
    """What is otherwise, in words and with its places."""
    places: dict[str, list[str]] = {}
    for what, where in sorted({**before, **after}, key=lambda key: key[1] == ""):
        was, now = before.get((what, where)), after.get((what, where))
        if was != now:
            named = places.setdefault(what if where else f"{what}: {now} instead of {was}", [])
            named += [where.partition("#")[0]] if where else []
    words = []
    for what, each in places.items():
        names = list(dict.fromkeys(each))
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        words.append(f"{what} ({', '.join(names[:SHOWN])}{more})" if names else what)
    return words
