"""Paths between two runs: through their embeddings, or through the activations of some points."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.core.hooks import Activations, SiteLayer
from methods.core.points import PointGrid, Site
from methods.core.subject import SubjectModel

if TYPE_CHECKING:
    from methods.core.corruption import Contrast, Run

Rule = Literal["middle", "end", "trapezoid"]
"""Where in a step something is measured: in its middle, at its end, or at both ends."""


def weights(steps: int, rule: Rule) -> dict[float, float]:
    """Places on a path from 0 to 1, with the weights that make a mean over the path of them."""
    if rule == "trapezoid":
        ends = {k / steps: 1 / steps for k in range(steps + 1)}
        return ends | {0.0: 0.5 / steps, 1.0: 0.5 / steps}
    offset = 0.5 if rule == "middle" else 1.0
    return {(k + offset) / steps: 1 / steps for k in range(steps)}


def run_between(subject: SubjectModel, contrast: Contrast, at: float) -> Run:
    """The run whose embeddings lie between those of the donor's run (0) and the receiver (1)."""
    receiver, donor = contrast.receiver, contrast.donor_run
    if donor is None:
        raise ValueError("a path through embeddings needs a corrupted run")
    change = donor.embeddings(subject) - receiver.embeddings(subject)
    noise = 0.0 if receiver.noise is None else receiver.noise
    return replace(receiver, noise=noise + (1 - at) * change)


@dataclass(frozen=True, eq=False)
class Between:
    """An edit that puts points between the donor's activation (0) and the one that arrives (1).

    Attributes:
        grid: the points.
        donated: the donor's activations of all prompts.
        gates: where between the two; at 1 an activation stays as it is, bit for bit.
        points: the sites and layers that are edited.
        rows: which prompts are rows of the forward.
    """

    grid: PointGrid
    donated: Activations
    gates: Float[Tensor, "#row place layer position"]
    points: Collection[SiteLayer]
    rows: slice | Int[Tensor, " row"] = field(default_factory=lambda: slice(None))

    @staticmethod
    def all_at(
        grid: PointGrid, donated: Activations, at: float, points: Collection[SiteLayer]
    ) -> Between:
        """All points of the grid at one place between the two."""
        gates = torch.where(grid.included.clone(), at, 1.0)[None]
        return Between(grid, donated, gates, points)

    def of_rows(self, rows: slice) -> Between:
        """The same for a forward of some of the prompts, whose gates are those of all prompts."""
        return replace(self, rows=rows)

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        """The activation that takes the place of `h`."""
        donated = self.donated[site, layer][self.rows].to(h.dtype)
        gates = self._everywhere[:, self.grid.rows(site), layer].to(h).movedim(1, -1)
        return torch.lerp(donated, h, gates[..., None] if h.dim() == 4 else gates)

    @cached_property
    def _everywhere(self) -> Float[Tensor, "#row place layer position"]:
        """The gates at all positions of a prompt, 1 outside of the grid; made once a forward."""
        everywhere = self.gates.new_ones((*self.gates.shape[:-1], self.grid.n_positions))
        at = torch.tensor(self.grid.positions, device=self.gates.device)
        return everywhere.index_copy(-1, at, self.gates)
