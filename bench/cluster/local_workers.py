"""Worker processes of this machine: started, watched, started anew when they die."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from distributed import Scheduler, SpecCluster

from bench.cluster.worker_logs import WorkerLogs
from bench.matrix.schema import Matrix
from tasks.errors import UserInputError

FALSE_STARTS = 5
"""So many processes in turn that end before they worked: nobody tries again."""


class NoWorkerError(UserInputError):
    """There is nobody who computes, or not any more."""


@dataclass
class _Process:
    """A place for a process; `generation` counts those that had it."""

    name: str
    environment: dict[str, str]
    gpu: bool
    generation: int = 0
    running: subprocess.Popen[bytes] | None = None
    seen: bool = False

    @property
    def called(self) -> str:
        """The name of the process that has the place now."""
        return f"{self.name}.{self.generation}"


class LocalWorkers:
    """A scheduler in this process, and so many workers, all listening on this machine only."""

    def __init__(self, number: int, gpus: Sequence[str], logs: WorkerLogs) -> None:
        self.logs, self.gpus = logs, list(gpus)
        self.false_starts = 0
        self.folder = tempfile.mkdtemp(prefix="attribution-bench-workers-")
        self.scheduler = SpecCluster(
            scheduler={
                "cls": Scheduler,
                # Any port: dask's own choice is taken as soon as there are two runs.
                "options": {"host": "127.0.0.1", "dashboard": False, "dashboard_address": ":0"},
            },
            workers={},
            silence_logs=50,
        )
        self.places = []
        for index in range(number):  # a GPU each while there are any; the others have none
            mine = gpus[index : index + 1]
            environment = {"CUDA_VISIBLE_DEVICES": ",".join(mine)} if gpus else {}
            self.places.append(_Process(f"worker-{index}", environment, bool(mine)))
        for place in self.places:
            self._start(place)

    @property
    def address(self) -> str:
        """Of the scheduler."""
        return str(self.scheduler.scheduler_address)

    def _start(self, place: _Process) -> None:
        place.generation += 1
        place.seen = False
        path = [entry or os.getcwd() for entry in sys.path]
        place.running = subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.cluster.worker_process"),
                *(self.address, place.called, self.folder, *(["gpu"] if place.gpu else [])),
            ],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path),
                "TOKENIZERS_PARALLELISM": "false",
                **place.environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us: they are ended in good order
        )
        assert place.running.stdout is not None
        threading.Thread(
            target=self._listen, args=(place.called, place.running.stdout), daemon=True
        ).start()

    def _listen(self, name: str, said: IO[bytes]) -> None:
        with said:
            for line in said:
                self.logs.add(name, line.decode("utf-8", "replace"))

    def look(self, there: Collection[str]) -> None:
        """Starts anew what has ended, or is alive but has lost its scheduler.

        Args:
            there: names of the workers that the scheduler knows.

        Raises:
            NoWorkerError: if processes end again and again before the scheduler knows them.
        """
        for place in self.places:
            assert place.running is not None
            if place.called in there:
                place.seen, self.false_starts = True, 0
                continue
            status = place.running.poll()
            if status is None and not place.seen:
                continue  # on its way
            if status is None:
                self._kill(place)
            elif not place.seen:
                self.false_starts += 1
                if self.false_starts >= FALSE_STARTS:
                    raise NoWorkerError(
                        f"{FALSE_STARTS} worker processes in turn ended (exit code {status}) "
                        f"before they did anything.\n{self.logs.tail(place.called)}"
                    )
            self._start(place)

    def end(self, name: str) -> None:
        """Ends a process; `look` starts the next one."""
        for place in self.places:
            if place.called == name:
                self._kill(place)

    def _kill(self, place: _Process) -> None:
        if place.running is not None and place.running.poll() is None:
            place.running.kill()
            place.running.wait()

    def close(self) -> None:
        """Ends all of them, whatever they are doing, and the scheduler."""
        for place in self.places:
            self._kill(place)
            if place.running is not None and place.running.stdin is not None:
                with suppress(OSError):
                    place.running.stdin.close()
        self.scheduler.close(timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)


def shared_gpus(matrix: Matrix) -> list[str]:
    """The GPUs that are shared out among workers, as CUDA_VISIBLE_DEVICES names them.

    Raises:
        UserInputError: if the matrix names a GPU by its number, which all would compute on.
    """
    devices = {model.device for model in matrix.models}
    numbered = sorted(device for device in devices if device.startswith("cuda:"))
    if numbered:
        raise UserInputError(
            f'--workers shares the GPUs out, one a worker, so device "{numbered[0]}" cannot be '
            'had: write "cuda". To use some of the GPUs, name them in CUDA_VISIBLE_DEVICES.'
        )
    if not devices & {"auto", "cuda"}:
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
