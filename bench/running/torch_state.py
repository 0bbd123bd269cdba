"""What torch keeps for a process or thread: all that computes finds it as it was left."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.modules import module as modules

Getter = Callable[[], Any]
Setter = Callable[[Any], object]


class Switch(NamedTuple):
    """One of torch's settings."""

    get: Getter
    set: Setter


def _attribute(owner: Any, name: str) -> Switch:
    return Switch(lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


def _autocast(device: str) -> Switch:
    def get() -> tuple[bool, torch.dtype]:
        return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def put(value: tuple[bool, torch.dtype]) -> None:
        torch.set_autocast_enabled(device, value[0])
        torch.set_autocast_dtype(device, value[1])

    return Switch(get, put)


def _flushes_denormals() -> bool:
    """Whether the smallest numbers are taken for 0."""
    return float(torch.tensor(1e-40, dtype=torch.float32, device="cpu") * 0.5) == 0


def _hooks_of_all(kind: str) -> Switch:
    table = getattr(modules, kind)

    def put(value: tuple[tuple[Any, Any], ...]) -> None:
        table.clear()
        table.update(value)

    return Switch(lambda: tuple(table.items()), put)


def _device(value: torch.device) -> None:
    # Nothing costs less than the device that is torch's own choice.
    torch.set_default_device(None if value.type == "cpu" else value)


SWITCHES: Mapping[str, Switch] = {
    "inference mode": Switch(torch.is_inference_mode_enabled, lambda value: None),  # see `modes`
    "grad mode": Switch(torch.is_grad_enabled, torch._C._set_grad_enabled),
    "anomaly mode": Switch(torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    "default dtype": Switch(torch.get_default_dtype, torch.set_default_dtype),
    "default device": Switch(torch.get_default_device, _device),
    "number of threads": Switch(torch.get_num_threads, torch.set_num_threads),
    "deterministic mode": Switch(
        torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
    ),
    "flushing of denormal numbers": Switch(_flushes_denormals, torch.set_flush_denormal),
    **{
        f"torch.backends.{name}": _attribute(torch.backends, name)
        for name in ("fp32_precision",)
        if hasattr(torch.backends, name)  # of newer versions
    },
    "precision of fp32 products": Switch(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    **{f"autocast on {device}": _autocast(device) for device in ("cpu", "cuda")},
    **{
        f"torch.backends.cuda.matmul.{name}": _attribute(torch.backends.cuda.matmul, name)
        for name in (
            "allow_tf32",
            "allow_fp16_reduced_precision_reduction",
            "allow_bf16_reduced_precision_reduction",
        )
    },
    **{
        f"torch.backends.cudnn.{name}": _attribute(torch.backends.cudnn, name)
        for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
    },
    "torch.backends.cuda.flash_sdp": Switch(
        torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp
    ),
    "torch.backends.cuda.mem_efficient_sdp": Switch(
        torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp
    ),
    "torch.backends.cuda.math_sdp": Switch(
        torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp
    ),
    **{
        f"hooks of all modules ({kind.removeprefix('_global_')})": _hooks_of_all(kind)
        for kind in (
            "_global_forward_pre_hooks",
            "_global_forward_hooks",
            "_global_backward_pre_hooks",
            "_global_backward_hooks",
        )
    },
}
"""What it is called -> how it is read and set."""


class TorchState:
    """Torch's settings as they were found, here and in this thread."""

    def __init__(self) -> None:
        self.found = _now()

    def changes(self) -> list[str]:
        """What is otherwise than it was, in words."""
        now = _now()
        return [
            f"{name}: {_short(now[name])} instead of {_short(value)}"
            for name, value in self.found.items()
            if now[name] != value
        ]

    def restore(self) -> None:
        """Sets what is otherwise to what it was."""
        now = _now()
        for name, value in self.found.items():
            if now[name] != value:
                SWITCHES[name].set(value)


def _now() -> dict[str, Any]:
    return {name: switch.get() for name, switch in SWITCHES.items()}


def _short(value: object) -> str:
    return str(value)[:60] if value != () else "none"


@contextmanager
def modes() -> Iterator[None]:
    """At the block's end grad and inference mode are as before it, whatever was left in it."""
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    with torch.inference_mode(inference), torch.set_grad_enabled(grad):
        yield


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
