"""A dask cluster on this machine for `--workers`: processes, with a GPU each if there are any."""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

import dask
from distributed import Nanny, Scheduler, SpecCluster, Worker

from tasks.errors import UserInputError

START_SECONDS = 120


@contextmanager
def local_cluster(number: int, gpus: Sequence[str]) -> Iterator[str]:
    """A scheduler in this process and `number` workers, in the block; gives its address.

    They listen on this machine only. A worker computes one cell at a time, without a limit on
    memory, spilling or sampling: a cell's numbers and its time are those of one process. One that
    dies is started again.

    Args:
        number: of workers.
        gpus: as CUDA_VISIBLE_DEVICES names them, one for each of the first workers.

    Raises:
        UserInputError: if processes cannot be started.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            cluster = _cluster(number, gpus, folder)
        except (RuntimeError, OSError) as error:
            raise UserInputError(f"Worker processes do not start: {error}") from error
        try:
            yield str(cluster.scheduler_address)
        finally:
            with suppress(TimeoutError):
                cluster.close(timeout=30)


def _cluster(number: int, gpus: Sequence[str], folder: str) -> SpecCluster:
    quiet = {"distributed.worker.profile.enabled": False, "distributed.nanny.pre-spawn-environ": {}}
    workers = {}
    for index in range(number):
        mine = gpus[index : index + 1]
        environment = {"CUDA_VISIBLE_DEVICES": ",".join(mine)} if gpus else {}
        workers[index] = {
            "cls": Nanny,
            "options": {
                "name": f"worker-{index}",
                "nthreads": 1,
                "memory_limit": None,
                "local_directory": folder,
                "host": "127.0.0.1",
                "dashboard": False,
                "resources": {"GPU": 1} if mine else {},
                "env": {"TOKENIZERS_PARALLELISM": "false", **environment},
                "config": quiet,
                "preload": ["bench.execution.local_cluster"],
                "death_timeout": START_SECONDS,
                "silence_logs": 50,
            },
        }
    with dask.config.set(quiet):
        return SpecCluster(
            workers=workers,
            scheduler={
                "cls": Scheduler,
                # Any port: dask's own choice is taken as soon as there are two runs.
                "options": {"host": "127.0.0.1", "dashboard": False, "dashboard_address": ":0"},
            },
            silence_logs=50,
        )


def dask_setup(worker: Worker) -> None:
    """Runs in each of these workers at its start: a crash shows where, and Ctrl-C is not theirs."""
    faulthandler.enable(file=2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def shared_gpus(devices: Collection[str]) -> list[str]:
    """The GPUs that are shared out among workers, as CUDA_VISIBLE_DEVICES names them.

    Args:
        devices: those of a matrix's models.

    Raises:
        UserInputError: if one is a GPU by its number, which all would compute on.
    """
    numbered = sorted(device for device in devices if device.startswith("cuda:"))
    if numbered:
        raise UserInputError(
            f'--workers shares the GPUs out, one a worker, so device "{numbered[0]}" cannot be '
            'had: write "cuda". To use some of the GPUs, name them in CUDA_VISIBLE_DEVICES.'
        )
    if not {"auto", "cuda"}.intersection(devices):
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
