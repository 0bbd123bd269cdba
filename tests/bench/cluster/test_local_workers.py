"""Processes of this machine: what they are given, and that they never linger."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from bench.cluster.local_workers import FALSE_STARTS, LocalWorkers, NoWorkerError, shared_gpus
from bench.cluster.worker_logs import WorkerLogs

from tasks.errors import UserInputError
from tests.small import small_matrix


def soon(happens: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not happens() and time.monotonic() < deadline:
        time.sleep(0.05)
    return happens()


@pytest.fixture
def logs() -> WorkerLogs:
    return WorkerLogs()


def stub(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a shell script the Python that workers run in."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(file))


def test_gpus_are_shared_out_one_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: WorkerLogs
) -> None:
    stub(tmp_path, 'echo "sees <$CUDA_VISIBLE_DEVICES> is ${6:-none}"; cat', monkeypatch)
    with closing(LocalWorkers(3, ["5", "7"], logs)):
        assert soon(lambda: len(logs.last) == 3)
        said = [logs.tail(f"worker-{place}.1").split()[-4:] for place in range(3)]
        assert said == [["sees", f"<{gpu}>", "is", kind] for gpu, kind in (
            ("5", "gpu"), ("7", "gpu"), ("", "none")
        )]  # fmt: skip


def test_processes_that_do_not_start_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: WorkerLogs
) -> None:
    stub(tmp_path, 'echo "a library is missing"; exit 3', monkeypatch)
    with closing(LocalWorkers(1, [], logs)) as workers:
        with pytest.raises(NoWorkerError, match=r"exit code 3\) before they did anything"):
            soon(lambda: workers.look(()) is not None)
        assert workers.places[0].generation == FALSE_STARTS
        assert soon(lambda: "a library is missing" in logs.tail(f"worker-0.{FALSE_STARTS}"))


def test_a_process_that_lost_its_scheduler_is_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: WorkerLogs
) -> None:
    stub(tmp_path, "cat", monkeypatch)
    with closing(LocalWorkers(1, [], logs)) as workers:
        first = workers.places[0].running
        assert first is not None
        workers.look(("worker-0.1",))
        workers.look(())  # it is alive, but the scheduler does not know it any more
        assert first.poll() is not None
        assert workers.places[0].called == "worker-0.2"
        workers.end("worker-0.2")
        second = workers.places[0].running
        assert second is not None
        assert second.poll() is not None


def test_a_worker_ends_with_the_one_who_started_it(tmp_path: Path) -> None:
    command = ["bench.cluster.worker_process", "tcp://127.0.0.1:9", "orphan", str(tmp_path)]
    worker = subprocess.Popen([sys.executable, "-m", *command], stdin=subprocess.PIPE)
    assert worker.stdin is not None
    worker.stdin.close()
    assert worker.wait(timeout=300) == 0


def test_a_gpu_by_its_number_cannot_be_shared_out() -> None:
    matrix = small_matrix("unused", models=[{"name": "unused", "device": "cuda:1"}])
    with pytest.raises(UserInputError, match='"cuda:1" cannot be had: write "cuda"'):
        shared_gpus(matrix)
    assert shared_gpus(small_matrix("unused")) == []  # on the CPU
