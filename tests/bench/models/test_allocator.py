"""Freed memory is kept: counted in pages that the system has to fill with zeros."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import sys
import torch
from bench.models.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults = []
for _ in range(40):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(2**20).add_(1)  # 4 MiB, 1,024 pages
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sum(faults[20:]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_the_same_memory_is_used_again() -> None:
    mapped, kept = (
        int(
            subprocess.run(
                [sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True
            ).stdout
        )
        for how in ("as ever", "keep")
    )
    assert kept < 100
    assert kept <= mapped
