"""Records where numbers were made: versions, device, time and memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from bench.models.load import LoadedModel
from methods.core.subject import SubjectModel

RECORDED_PACKAGES = ("attribution-bench", "torch", "transformers", "transformer-lens", "numpy")


def environment(model: LoadedModel, subject: SubjectModel) -> dict[str, Any]:
    """Where numbers were made."""
    return {
        **machine(),
        "model_digest": model.digest,
        "model_content": model.content,
        "bos_id": model.bos_id,
        "device": str(subject.device),
        "device_name": _device_name(subject.device),
        "dtype": str(subject.dtype).removeprefix("torch."),
        "rows_per_forward": subject.rows_per_forward,
        "packed_layers": model.packed_layers,
    }


def machine() -> dict[str, Any]:
    """What is known before a model is loaded."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "git": git_state(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "process": os.getpid(),
    }


@cache
def git_state() -> dict[str, Any] | None:
    """The commit of the suite's own clone and whether it was changed since; None without one.

    Of the moment when it is first asked for: what a process has imported stays what it is.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed, not cloned: perhaps within someone else's clone
        return None
    found = []
    for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            run = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if run.returncode:
            return None
        found.append(run.stdout.strip())
    return {"commit": found[0], "dirty": bool(found[1])}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: of the device on CUDA, else of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _versions() -> dict[str, str]:
    found = {}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a clone that is not installed
            from bench import __version__

            found[package] = __version__
    return found


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds = {"fit": 0.0, "tune": 0.0, "evaluate": 0.0}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start
