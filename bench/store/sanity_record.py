"""What a cell's record says of checks: maps that should change, and harm where nothing is asked."""

from __future__ import annotations

import math
from typing import Literal

from bench.store.schema import StrictRecord

CHANGED = 0.5
"""A rank correlation below this is another map."""
Changes = Literal["yes", "in sign alone", "no", "undefined"]


def map_changes(rho: float, size_rho: float) -> Changes:
    """Return whether a map is another one, by rank correlations of scores and of their sizes.

    It is the same where that of scores is 0.5 or more; where that of sizes alone is, points are as
    strong as they were and their signs change.
    """
    if not (math.isfinite(rho) and math.isfinite(size_rho)):
        return "undefined"
    if rho >= CHANGED:
        return "no"
    return "in sign alone" if size_rho >= CHANGED else "yes"


class SanityRow(StrictRecord):
    """A map beside the method's own on the same prompts, over the points that could matter.

    `what` was permuted: the `weights` of the last `layers` layers, or the `answers` between prompts
    (`layers` is 0). `rho` is Spearman's rank correlation of scores, `size_rho` that of |score|,
    `shared` the share of the largest |score| that both have, `size` the mean |score| over that of
    the own map. NaN where a map has no numbers, or one number only.
    """

    what: Literal["weights", "answers"]
    layers: int
    rho: float
    size_rho: float
    shared: float
    size: float


class SanityRecord(StrictRecord):
    """A method fitted again where its map has to change (`bench.evaluation.sanity`).

    `positions` of the prompts and `n_points` were compared, on `n_prompts` of train;
    `shared_by_chance` is what two random maps would have in common.
    """

    n_prompts: int
    positions: list[int]
    n_points: int
    shared_by_chance: float
    rows: list[SanityRow]

    @property
    def deepest(self) -> SanityRow | None:
        """The map with the most layers permuted: all of them."""
        weights = [row for row in self.rows if row.what == "weights"]
        return max(weights, key=lambda row: row.layers, default=None)

    @property
    def answers(self) -> SanityRow | None:
        """The map of other prompts' answers."""
        return next((row for row in self.rows if row.what == "answers"), None)

    @property
    def changes(self) -> Changes | None:
        """Whether the map changes with all weights permuted; None where they were not."""
        row = self.deepest
        return None if row is None else map_changes(row.rho, row.size_rho)


class SpecificityRow(StrictRecord):
    """What the intervention does to prompts, at +beta and -beta (`bench.evaluation.specificity`).

    `kind` says of what: the `own` task, another `task`, or a `neutral` text; `where` is its label.
    `ld_change` is the mean |LD - LD unsteered|, `kl` the mean divergence of one sign from the
    unsteered model in nats a token, `moved` the share of points that a prompt there has.
    """

    where: str
    kind: Literal["own", "task", "neutral"]
    n_prompts: int
    moved: float
    ld_change: float
    kl: float


class SpecificityRecord(StrictRecord):
    """The intervention at `beta` on its own task's test prompts and on others."""

    beta: float
    rows: list[SpecificityRow]

    def of(self, kind: str) -> list[SpecificityRow]:
        """The rows of a kind."""
        return [row for row in self.rows if row.kind == kind]

    def mean(self, name: Literal["ld_change", "kl"], kind: str) -> float | None:
        """A column's mean over the rows of a kind, each counting alike; None without any."""
        values = [float(getattr(row, name)) for row in self.of(kind)]
        return sum(values) / len(values) if values else None
