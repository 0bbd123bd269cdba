"""`python -m bench.cluster.worker_process SCHEDULER NAME FOLDER [GPU]`: a worker on this machine.

It ends at once when whoever started it has ended, however that happened, since its standard input
is closed then.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading

import dask
from distributed import Worker


def main(scheduler: str, name: str, folder: str, gpu: str = "") -> None:
    """Works for a scheduler until that ends.

    No limit on memory, no spilling to disk, no sampling of what threads do: a cell's numbers and
    its time are those of one process.
    """
    faulthandler.enable()  # a crash in a library leaves a traceback in the log
    threading.Thread(target=_end_with_the_other_side, daemon=True).start()
    with dask.config.set({"distributed.worker.profile.enabled": False}):
        asyncio.run(_serve(scheduler, name, folder, {"GPU": 1} if gpu else {}))


async def _serve(scheduler: str, name: str, folder: str, resources: dict[str, float]) -> None:
    async with Worker(
        scheduler,
        name=name,
        nthreads=1,
        memory_limit=None,
        host="127.0.0.1",
        dashboard=False,
        resources=resources,
        local_directory=folder,
        silence_logs=40,
    ) as worker:
        await worker.finished()


def _end_with_the_other_side() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
