"""Scaling and adding at one point, each behind a gate.

Source: 'Joint Localization and Activation Editing for Low-Resource Fine-Tuning' (Lai, Fraser and
Titov 2025), Section 3; gates by 'Learning Sparse Neural Networks through L0 Regularization'
(Louizos, Welling and Kingma 2018), Eq. 10 to 13.
"""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.core.gates import sample, without_noise
from methods.core.intervention import EditFunction
from methods.core.points import PointGrid, Site
from methods.core.steering_vectors import SteeringVectors


class GatedEditing(SteeringVectors):
    """h <- (1 + beta g_2 a) * h + beta g_1 v: channel scales a and a vector v behind a gate each.

    Gates are hard-concrete ones of no noise, exactly 0 or 1 beyond a log alpha of -2.4 and 2.4,
    or those that were drawn last. What Eq. 8 and the counts look at are g_1 v and g_2 a.

    Args:
        grid: the points.
        vectors: v, of what is added.
        scales: a, as wide as v.
        log_alpha: of g_1, which adds, and of g_2, which scales.
    """

    unit = "point"
    uniform: Tensor | None = None
    """What the gates are drawn by; without it they have no noise."""

    def __init__(
        self,
        grid: PointGrid,
        vectors: Float[Tensor, "place layer position width"],
        scales: Float[Tensor, "place layer position width"],
        log_alpha: Float[Tensor, "place layer position 2"],
    ) -> None:
        super().__init__(grid, vectors)
        own = scales if self.fits is None else scales * self.fits[:, None, None]
        self.scales = nn.Parameter(own.to(torch.float32, copy=True))
        self.log_alpha = nn.Parameter(log_alpha.to(torch.float32, copy=True))

    def draw(self, generator: torch.Generator) -> None:
        """Draws gates for the forwards that follow, the same for all of their rows."""
        uniform = torch.rand(self.log_alpha.shape, generator=generator)
        self.uniform = uniform.clamp(1e-6, 1 - 1e-6).to(self.log_alpha.device)

    def gates(self) -> tuple[Tensor, Tensor]:
        """g_1 and g_2 of every point, (place, layer, position) each."""
        number, uniform = self.log_alpha, self.uniform
        drawn = without_noise(number) if uniform is None else sample(number, uniform)
        add, scale = drawn.unbind(-1)
        return add, scale

    def gated(self) -> tuple[Tensor, Tensor]:
        """g_1 v and g_2 a of every point, (place, layer, position, width) each."""
        add, scale = self.gates()
        return add[..., None] * self.vectors, scale[..., None] * self.scales

    def bind(self, beta: Tensor, start: int) -> EditFunction:
        """Both at once, rounded once."""
        vectors, scales = (self.by_layer(start, one) for one in self.gated())

        def edit(site: Site, layer: int, h: Tensor) -> Tensor:
            add, scale = (
                one[layer][:, self.grid.rows(site), : h.shape[-1]].reshape(h.shape[1:])
                for one in (vectors, scales)
            )
            wide = torch.promote_types(h.dtype, torch.float32)
            strength = beta.view(-1, *[1] * add.dim())
            return (h.to(wide) * (1 + strength * scale) + strength * add).to(h.dtype)

        return edit

    def theta(self) -> Tensor:
        """The entries of g_1 v and g_2 a of the points that take part."""
        return torch.cat([self.entries_of(one) for one in self.gated()])

    def magnitudes(self) -> Tensor:
        """The norms of g_1 v and g_2 a together, of the points that take part."""
        together = torch.cat([one.detach() for one in self.gated()], dim=-1)
        norms: Tensor = together[self.included].norm(dim=-1)
        return norms

    def masked(self, keep: Tensor) -> Self:
        """Whole points times `keep`."""
        full = self.vectors.new_zeros(self.included.shape)
        full[self.included] = keep
        vectors, scales = (one.detach() * full[..., None] for one in (self.vectors, self.scales))
        return type(self)(self.grid, vectors, scales, self.log_alpha.detach())
