"""Steering vectors, Eq. 4.

Source: 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr et al.,
Findings of EMNLP 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.core.intervention import EditFunction, Intervention, widths_taken
from methods.core.points import PointGrid, Site


class SteeringVectors(Intervention):
    """Steering vectors, Eq. 4: h <- h + beta v, one v a point.

    Of a grid whose places differ in width, vectors are as wide as the widest, and their entries
    beyond a place's own width are 0 and no parameters.
    """

    unit = "vector"

    def __init__(
        self, grid: PointGrid, vectors: Float[Tensor, "place layer position width"]
    ) -> None:
        super().__init__(grid)
        self.register_buffer("fits", widths_taken(grid, vectors), persistent=False)
        own = vectors if self.fits is None else vectors * self.fits[:, None, None]
        self.vectors = nn.Parameter(own.to(torch.float32, copy=True))

    fits: Tensor | None

    def by_layer(
        self, start: int, vectors: Float[Tensor, "place layer position width"] | None = None
    ) -> tuple[Float[Tensor, "position place width"], ...]:
        """The vectors (or others like them) of each layer from position `start` on, 0 where no
        point takes part."""
        vectors = self.vectors if vectors is None else vectors
        taking_part = (vectors * self.included[..., None]).movedim(2, -1)
        everywhere = self.everywhere(taking_part, self.grid.n_positions, start).movedim(-1, 0)
        return everywhere.unbind(2)

    def bind(self, beta: Tensor, start: int) -> EditFunction:
        """Every point's vector times the strength, put to its activation by `changed`."""
        by_layer = self.by_layer(start)

        def steer(site: Site, layer: int, h: Tensor) -> Tensor:
            vectors = by_layer[layer][:, self.grid.rows(site), : h.shape[-1]].reshape(h.shape[1:])
            wide = torch.promote_types(h.dtype, torch.float32)
            strength = beta.view(-1, *[1] * vectors.dim())
            return self.changed(h.to(wide), strength * vectors).to(h.dtype)

        return steer

    @staticmethod
    def changed(h: Tensor, change: Tensor) -> Tensor:
        """Eq. 4, for `change` beta v."""
        return h + change

    def theta(self) -> Tensor:
        """The entries of the vectors of the points that take part."""
        return self.entries_of(self.vectors)

    def entries_of(self, vectors: Float[Tensor, "place layer position width"]) -> Tensor:
        """The entries of the points that take part, within their place's own width."""
        entries = vectors[self.included]
        if self.fits is None:
            return entries.flatten()
        return entries[self.fits[:, None, None].expand_as(vectors)[self.included]]

    def magnitudes(self) -> Tensor:
        """The norms of the vectors of the points that take part."""
        norms: Tensor = self.vectors.detach()[self.included].norm(dim=-1)
        return norms

    @torch.no_grad()
    def shrink(self, amounts: Sequence[Tensor]) -> None:
        """Shortens whole vectors, by the mean of their entries' amounts times sqrt(width).

        The proximal step of the sum of norms (group lasso: Yuan and Lin 2006), each weighted by
        sqrt(width) so that it compares with the L1 norm of the entries.
        """
        (amount,) = amounts
        width = (
            self.vectors.shape[-1] if self.fits is None else self.fits.sum(dim=-1)[:, None, None]
        )
        lengths = self.vectors.norm(dim=-1)
        less = amount.mean(dim=-1) * torch.as_tensor(width, device=lengths.device).sqrt()
        kept = torch.relu(1 - less / lengths.clamp_min(torch.finfo(lengths.dtype).tiny))
        self.vectors.mul_(kept[..., None])

    def masked(self, keep: Tensor) -> Self:
        """Whole vectors times `keep`."""
        full = self.vectors.new_zeros(self.included.shape)
        full[self.included] = keep
        return type(self)(self.grid, self.vectors.detach() * full[..., None])
