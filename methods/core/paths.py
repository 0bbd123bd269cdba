"""Paths between two runs: through their embeddings, or through the activations of some points."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from methods.core.corruption import Activations, Contrast, Run
from methods.core.hooks import SiteLayer
from methods.core.points import PointGrid, Site
from methods.core.subject import SubjectModel

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
        grid: whose points move; others stay.
        donated: the donor's activations of all prompts.
        at: where between the two.
        rows: which prompts are rows of the forward.
        points: the sites and layers that move.
    """

    grid: PointGrid
    donated: Activations
    at: float
    rows: slice
    points: Collection[SiteLayer]

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        """The activation that takes the place of `h`; `h` itself at 1."""
        donated = self.donated[site, layer][self.rows].to(h.dtype)
        moves = torch.zeros(h.shape[1], dtype=torch.bool, device=h.device)
        moves[list(self.grid.positions)] = self.grid.included[self.grid.rows(site).start, layer].to(
            h.device
        )
        moved = torch.lerp(donated, h, self.at)
        return torch.where(moves.view(-1, *[1] * (h.dim() - 2)), moved, h)
