"""What the tests of workers share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def forked_workers() -> Iterator[None]:
    """Workers of this process are forked from one that has imported torch: that takes no time."""
    import dask
    from distributed.utils import get_mp_context

    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(["bench.execution.dask_worker", "transformer_lens"])
        yield
