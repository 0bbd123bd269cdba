"""Memory at hand is what the limits of containers and jobs leave, whichever way they are told."""

from pathlib import Path

import psutil
import pytest
import torch

from methods.core import memory
from methods.core.memory import available_memory

MIB = 2**20
UNLIMITED = 9223372036854771712
"""What version 1 says where there is no limit."""


def group(folder: Path, limit: object, used: int, cached: int, version: int) -> None:
    """The files of a cgroup; numbers are in MiB, limits in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}
    limit_name, usage_name, cache_name = names.get(
        version, ("memory.max", "memory.current", "inactive_file")
    )
    (folder / limit_name).write_text(f"{limit}\n")
    (folder / usage_name).write_text(f"{used * MIB}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{cache_name} {cached * MIB}\n")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "fs")
    monkeypatch.setattr(memory, "OWN_CGROUPS", tmp_path / "own")
    (tmp_path / "fs").mkdir()
    return tmp_path / "fs"


def left(root: Path, own: str) -> int:
    """MiB at hand for a process whose /proc/self/cgroup says `own`."""
    (root.parent / "own").write_text(own)
    return available_memory(torch.device("cpu")) // MIB


def test_the_smallest_of_all_limits_above_is_what_counts(root: Path) -> None:
    """Slurm's: a job under a user under all; what is only cached counts as left."""
    group(root / "slurm", "max", 900, 0, 2)
    group(root / "slurm/uid_1", 200 * MIB, 150, 0, 2)
    group(root / "slurm/uid_1/job_2", 100 * MIB, 60, 20, 2)
    assert left(root, "0::/slurm/uid_1/job_2\n") == 50
    group(root / "slurm/uid_1", 200 * MIB, 50, 0, 2)
    assert left(root, "0::/slurm/uid_1/job_2\n") == 60
    group(root / "slurm/uid_1/job_2", 100 * MIB, 160, 0, 2)
    assert left(root, "0::/slurm/uid_1/job_2\n") == 0


def test_a_container_that_knows_its_groups_by_the_hosts_path(root: Path) -> None:
    own = "12:cpuset:/docker/abc\n5:cpu,memory:/docker/abc\n1:name=systemd:/docker/abc\n"
    group(root / "memory", 80 * MIB, 30, 5, 1)
    assert left(root, own) == 55
    group(root, 70 * MIB, 30, 0, 2)
    assert left(root, "0::/docker/abc\n") == 40


@pytest.mark.parametrize("own", ["", "0::/\n", "5:memory:/\n", "5:cpu:/\n"])
def test_without_a_limit_it_is_the_hosts(
    root: Path, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("M", (), {"available": 77 * MIB}))
    group(root, "max", 1, 0, 2)
    group(root / "memory", UNLIMITED, 1, 0, 1)
    assert left(root, own) == 77
    (root / "memory.max").write_text("nonsense")
    assert left(root, own) == 77
    (root.parent / "own").unlink()
    assert available_memory(torch.device("cpu")) == 77 * MIB
