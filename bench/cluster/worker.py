"""A worker of a scheduler, as one run knows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from distributed import Future

from bench.cluster.waiting import Loaded


@dataclass(eq=False)
class Worker:
    """A worker as this run knows it.

    Attributes:
        address: where it listens.
        id: another one for another process at the same address.
        name: what it is called.
        has_gpu_resource: it declares the resource `GPU`, of which a cell on CUDA takes one.
        hiring: its answer to the orders.
        kinds: the kinds of device it can compute on, once it is hired.
        there: the scheduler knows it still.
        running: it takes tasks: dask pauses a worker whose memory is full.
        ended: it did not answer; whoever comes in its place is another one.
        loaded: what it was last given a cell of.
        busy: it has a cell of this run.
        stuck: it did not begin with a cell that it was given: it has work of somebody else's.
        lacking: models that it could not load, for a kind of device.
    """

    address: str
    id: str
    name: str
    has_gpu_resource: bool
    hiring: Future
    kinds: frozenset[str] = frozenset()
    there: bool = True
    running: bool = True
    ended: bool = False
    loaded: Loaded | None = None
    busy: bool = False
    stuck: bool = False
    lacking: set[Loaded] = field(default_factory=set)

    @property
    def able(self) -> bool:
        """Whether it can be given something."""
        return self.there and self.running and bool(self.kinds) and not self.ended

    @property
    def called(self) -> str:
        """How sentences call it."""
        return self.address if self.name == self.address else f'"{self.name}" ({self.address})'

    def may_have(self, needed: Loaded) -> bool:
        """Whether it may be able to load a model: it has not tried, or not even answered."""
        hoped = self.able and needed[1] in self.kinds if self.kinds else self.there
        return hoped and needed not in self.lacking
