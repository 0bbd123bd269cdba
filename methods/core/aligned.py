"""An intervention that is tied to positions, on prompts of another length."""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.core.hooks import SiteLayer
from methods.core.intervention import Intervention, behind
from methods.core.points import Site


class Aligned:
    """The `Edit` of a forward in which positions are counted from the answer position.

    The intervention's last position acts at a prompt's last, the one before it at the one before.
    Points that would lie before a prompt's first token, or at its BOS, have no place there; tokens
    before all of the intervention's positions are left alone.

    Args:
        intervention: acts position by position, on prompts of its grid's length.
        beta: its strength in each row.
        first: each row's first position behind padding and BOS.
    """

    def __init__(
        self, intervention: Intervention, beta: Float[Tensor, " row"], first: Int[Tensor, " row"]
    ) -> None:
        self.points: Collection[SiteLayer] = intervention.grid.site_layers
        self.length = intervention.grid.n_positions
        self.function = intervention.bind(beta, 0)
        self.first = first

    def __call__(
        self, site: Site, layer: int, h: Float[Tensor, "row position *head width"]
    ) -> Float[Tensor, "row position *head width"]:
        """The activation after the intervention."""
        length = h.shape[1]
        missing = max(0, self.length - length)
        padded = torch.cat([h.new_zeros(len(h), missing, *h.shape[2:]), h], dim=1)
        before = padded.shape[1] - self.length
        edited = self.function(site, layer, padded[:, before:])
        edited = torch.cat([padded[:, :before], edited], dim=1)[:, missing:]
        changes = behind(self.first, length).view(*h.shape[:2], *[1] * (h.dim() - 2))
        return torch.where(changes, edited, h)

    def moved(self, intervention: Intervention, length: int) -> Float[Tensor, " row"]:
        """The share of points that have a place in each row of prompts of a length."""
        included = intervention.grid.included.sum(dim=(0, 1)).float()
        at = torch.tensor(intervention.grid.positions) - self.length + length
        return (at >= self.first.cpu()[:, None]).float() @ included / included.sum()
