"""What a cell's record says of circuits and of single points that steer."""

from typing import Literal

from bench.store.schema import StrictRecord

Order = Literal["signed", "absolute"]
"""By which nodes are taken: the largest score first, or the largest |score|."""


class CircuitCurve(StrictRecord):
    """Faithfulness f of the circuits of one order, at each `k` of the record.

    `f_without` is that of all nodes but these. `CPR` is the area under f over the share of nodes,
    `CMD` that under |1 - f|, and `CPR_log` and `CMD_log` their means over log k. NaN where the two
    runs do not differ enough. `sufficient` counts the random circuits that come less near f = 1,
    `necessary` those without which f stays nearer to 1; `p_*` are of the binomial test that more
    than 0.9 of all random circuits do. None where none were drawn.
    """

    order: Order
    f: list[float]
    f_without: list[float]
    CPR: float
    CMD: float
    CPR_log: float
    CMD_log: float
    sufficient: int | None = None
    p_sufficient: float | None = None
    necessary: int | None = None
    p_necessary: float | None = None


class CircuitRecord(StrictRecord):
    """Circuits of the nodes that a method scores highest (`bench.evaluation.circuit`).

    `ld_clean` and `ld_corrupted` are means over the prompts of `split`; `k` nodes of `n_nodes` are
    kept at each `share`. Circuits of `tested_k` nodes are tested against `draws` random ones.
    """

    split: str
    n_nodes: int
    ld_clean: float
    ld_corrupted: float
    share: list[float]
    k: list[int]
    curves: list[CircuitCurve]
    tested_k: int = 0
    draws: int = 0

    def curve(self, order: Order) -> CircuitCurve:
        """The curve of an order."""
        return next(curve for curve in self.curves if curve.order == order)


class OnePointFit(StrictRecord):
    """What |score| says of the responses to single scalars at beta = +-`size`.

    R^2 on prompts left out: of a mean for every site and layer, and with |score| beside these.
    `gain` is the difference and the mean of `gains`, one a prompt. NaN where nothing responds.
    """

    size: float
    r2_site_layer: float
    r2: float
    gain: float
    gains: list[float]


class OnePointRecord(StrictRecord):
    """One-point steering on the first `n_prompts` of `split` (`bench.evaluation.one_point`)."""

    split: str
    n_points: int
    n_prompts: int
    fits: list[OnePointFit]
