"""Where numbers were made: versions, device, time and memory, stored with every cell."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil
import torch

from bench.models import LoadedModel
from methods.core.subject import SubjectModel

RECORDED_PACKAGES = ("attribution-bench", "torch", "transformers", "transformer-lens", "numpy")


def environment(model: LoadedModel, subject: SubjectModel) -> dict[str, Any]:
    """Where numbers were made."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "model_digest": model.digest,
        "bos_id": model.bos_id,
        "device": str(subject.device),
        "dtype": str(subject.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "rows_per_forward": subject.rows_per_forward,
        "packed_layers": model.packed_layers,
    }


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
