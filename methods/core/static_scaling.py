"""Activation scalars, Eq. 5.

Source: 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr et al.,
Findings of EMNLP 2024).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.core.intervention import EditFunction, Intervention, scaled
from methods.core.points import PointGrid, Site


class StaticScaling(Intervention):
    """Activation scalars, Eq. 5: h <- h (1 + beta alpha), one alpha a point."""

    def __init__(self, grid: PointGrid, alpha: Float[Tensor, "place layer position"]) -> None:
        super().__init__(grid)
        self.alpha = nn.Parameter(alpha.to(torch.float32, copy=True))

    @staticmethod
    def from_scores(
        grid: PointGrid, scores: Float[Tensor, "place layer position"]
    ) -> StaticScaling:
        """Attribution scores as scalars: divided by max|score|, so that beta has one meaning.

        Points left out of the grid (NaN) get 0; scores that are all 0 give scalars that do nothing.

        Raises:
            ValueError: if a score of a point that takes part is not finite.
        """
        alpha = scores.to(torch.float32).masked_fill(~grid.included.to(scores.device), 0.0)
        if not bool(torch.isfinite(alpha).all()):
            raise ValueError("the method gives NaN or infinite scores")
        largest = alpha.abs().max()
        return StaticScaling(grid, alpha / largest if largest > 0 else alpha)

    def bind(self, beta: Tensor, start: int) -> EditFunction:
        """Eq. 5: the factors 1 + beta alpha of all points at once."""
        alpha = self.everywhere(self.alpha * self.included, self.grid.n_positions, start)
        factors = (1 + beta[:, None, None, None] * alpha).unbind(2)

        def scale(site: Site, layer: int, h: Tensor) -> Tensor:
            return scaled(h, factors[layer][:, self.grid.rows(site)])

        return scale

    def theta(self) -> Tensor:
        """The scalars of the points that take part."""
        return self.alpha[self.included]

    def magnitudes(self) -> Tensor:
        """|alpha| of the points that take part."""
        return self.theta().detach().abs()

    def masked(self, keep: Tensor) -> StaticScaling:
        """The scalars times `keep`."""
        full = torch.zeros_like(self.alpha)
        full[self.included] = keep
        return StaticScaling(self.grid, self.alpha.detach() * full)
