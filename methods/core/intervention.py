"""Interventions: the only code of the project that edits an activation (Eq. 4, 5 and 10).

An intervention holds parameters for the points of a grid; `at(beta)` binds it to one strength a
row and gives the `Edit` that a forward of the subject model takes. All points of a forward act
together: a later point sees what the earlier ones did. At beta = 0 every activation is multiplied
by exactly 1 or added exactly 0, so the logits are those of the unmodified run, bit for bit.

Source: 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr et al.,
Findings of EMNLP 2024).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from methods.core.hooks import SiteLayer
from methods.core.points import PointGrid, Site


class Intervention(nn.Module):
    """Parameters theta for the points of a grid, and how they change an activation."""

    unit: str = "scalar"
    """What the smallest sufficient number of parameters counts: scalars, vectors or entries."""

    def __init__(self, grid: PointGrid) -> None:
        super().__init__()
        self.grid = grid
        # A copy, since the grid may have been made within inference_mode and this is trained with.
        self.register_buffer("included", grid.included.clone(), persistent=False)
        self.register_buffer("positions", torch.tensor(grid.positions), persistent=False)

    included: Tensor
    positions: Tensor

    def at(self, beta: Float[Tensor, " row"]) -> BoundIntervention:
        """The intervention at one strength a row of a batch."""
        return BoundIntervention(self, beta)

    @abstractmethod
    def edit(
        self,
        site: Site,
        layer: int,
        h: Float[Tensor, "row position d_model"],
        beta: Float[Tensor, " row"],
    ) -> Float[Tensor, "row position d_model"]:
        """The activation after the intervention at strength `beta` a row."""

    @abstractmethod
    def theta(self) -> Float[Tensor, " parameter"]:
        """The parameters that take part, flat: what Eq. 8 and the minimality counts look at."""

    @abstractmethod
    def magnitudes(self) -> Float[Tensor, " unit"]:
        """|theta| by unit (|scalar|, or the norm of a vector): what `keep_largest` ranks."""

    @abstractmethod
    def masked(self, keep: Float[Tensor, " unit"]) -> Self:
        """A copy without gradient whose units are multiplied by `keep` (1 keeps, 0 removes)."""

    def keep_largest(self, k: int) -> Self:
        """A copy in which only the `k` units of largest magnitude are left."""
        magnitudes = self.magnitudes()
        keep = torch.zeros_like(magnitudes)
        keep[magnitudes.argsort(descending=True, stable=True)[:k]] = 1
        return self.masked(keep).to(self.included.device)


@dataclass(frozen=True)
class BoundIntervention:
    """An intervention at one strength a row: the `Edit` of a forward."""

    intervention: Intervention
    beta: Float[Tensor, " row"]

    @property
    def points(self) -> Collection[SiteLayer]:
        """Every (site, layer) of the grid."""
        return self.intervention.grid.site_layers

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        """The activation after the intervention."""
        return self.intervention.edit(site, layer, h, self.beta)


class StaticScaling(Intervention):
    """Activation scalars, Eq. 5: h <- h (1 + beta alpha), one alpha a point."""

    def __init__(self, grid: PointGrid, alpha: Float[Tensor, "site layer position"]) -> None:
        super().__init__(grid)
        self.alpha = nn.Parameter(alpha.to(torch.float32, copy=True))

    @staticmethod
    def from_scores(grid: PointGrid, scores: Float[Tensor, "site layer position"]) -> StaticScaling:
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

    def edit(self, site: Site, layer: int, h: Tensor, beta: Tensor) -> Tensor:
        """Eq. 5."""
        index = self.grid.sites.index(site), layer
        alpha = self.alpha[index] * self.included[index]
        everywhere = alpha.new_zeros(h.shape[1]).index_copy(0, self.positions, alpha)
        return _scaled(h, 1 + beta[:, None] * everywhere)

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


class SteeringVectors(Intervention):
    """Steering vectors, Eq. 4: h <- h + beta v, one v of width d_model a point."""

    unit = "vector"

    def __init__(
        self, grid: PointGrid, vectors: Float[Tensor, "site layer position d_model"]
    ) -> None:
        super().__init__(grid)
        self.vectors = nn.Parameter(vectors.to(torch.float32, copy=True))

    def edit(self, site: Site, layer: int, h: Tensor, beta: Tensor) -> Tensor:
        """Eq. 4."""
        index = self.grid.sites.index(site), layer
        vectors = self.vectors[index] * self.included[index][:, None]
        everywhere = vectors.new_zeros(h.shape[1:]).index_copy(0, self.positions, vectors)
        wide = torch.promote_types(h.dtype, torch.float32)
        return (h.to(wide) + beta[:, None, None] * everywhere).to(h.dtype)

    def theta(self) -> Tensor:
        """The entries of the vectors of the points that take part."""
        return self.vectors[self.included].flatten()

    def magnitudes(self) -> Tensor:
        """The norms of the vectors of the points that take part."""
        norms: Tensor = self.vectors.detach()[self.included].norm(dim=-1)
        return norms

    def masked(self, keep: Tensor) -> SteeringVectors:
        """Whole vectors times `keep`."""
        full = self.vectors.new_zeros(self.included.shape)
        full[self.included] = keep
        return SteeringVectors(self.grid, self.vectors.detach() * full[..., None])


class DynamicScaling(Intervention):
    """Dynamic scalars, Eq. 10: alpha = g . h / ||h||, one gate g a (site, layer), then Eq. 5.

    h is the activation as it arrives during the steered run. ||h|| = 0 gives alpha = 0. The gates
    are shared over positions, so that they act at any prompt length; the BOS is left alone, also
    where the grid has it.
    """

    unit = "gate entry"

    def __init__(self, grid: PointGrid, gates: Float[Tensor, "site layer d_model"]) -> None:
        super().__init__(grid)
        self.gates = nn.Parameter(gates.to(torch.float32, copy=True))
        acts = grid.included.clone()
        if grid.has_bos and 0 in grid.positions:
            acts[:, :, grid.positions.index(0)] = False
        self.register_buffer("acts", acts, persistent=False)

    acts: Tensor

    def alpha(self, site: Site, layer: int, h: Float[Tensor, "row position d_model"]) -> Tensor:
        """Eq. 10 at the grid's positions: (row, chosen position), 0 at points left out and BOS."""
        index = self.grid.sites.index(site), layer
        h = h[:, self.positions].to(torch.float32)
        norm = torch.linalg.vector_norm(h, dim=-1, keepdim=True)
        direction = h / norm.clamp_min(torch.finfo(torch.float32).tiny)
        alpha: Tensor = (direction @ self.gates[index]) * self.acts[index]
        return alpha

    def edit(self, site: Site, layer: int, h: Tensor, beta: Tensor) -> Tensor:
        """Eq. 10, then Eq. 5."""
        alpha = self.alpha(site, layer, h)
        everywhere = alpha.new_zeros(h.shape[:2]).index_copy(1, self.positions, alpha)
        return _scaled(h, 1 + beta[:, None] * everywhere)

    def theta(self) -> Tensor:
        """The entries of the gates."""
        return self.gates.flatten()

    def magnitudes(self) -> Tensor:
        """|g| entry by entry."""
        return self.theta().detach().abs()

    def masked(self, keep: Tensor) -> DynamicScaling:
        """The entries of the gates times `keep`."""
        return DynamicScaling(self.grid, self.gates.detach() * keep.view_as(self.gates))


def _scaled(h: Tensor, factor: Float[Tensor, "row position"]) -> Tensor:
    """h times a factor a position, rounded once: 1 + 0.003 would be 1 in the model's bf16."""
    wide = torch.promote_types(h.dtype, torch.float32)
    return (h.to(wide) * factor[..., None]).to(h.dtype)


class PatchedRows:
    """Activation patching: each row of the forward gets another activation at one point.

    Args:
        patches: (site, layer) -> (row, position in the prompt, the activation to put there); a row
            may appear once or at many points.
    """

    def __init__(
        self,
        patches: dict[
            SiteLayer,
            tuple[Int[Tensor, " patch"], Int[Tensor, " patch"], Float[Tensor, "patch d_model"]],
        ],
    ) -> None:
        self.patches = patches

    @property
    def points(self) -> Collection[SiteLayer]:
        """Every (site, layer) with a patch."""
        return self.patches.keys()

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        """`h` with its patched rows replaced."""
        rows, positions, values = self.patches[site, layer]
        return h.index_put((rows, positions), values.to(h.dtype))
