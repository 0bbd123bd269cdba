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
from collections.abc import Callable, Collection
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from methods.core.hooks import Edit, SiteLayer
from methods.core.points import PointGrid, Site

EditFunction = Callable[[Site, int, Tensor], Tensor]
"""(site, layer, activation) -> the activation after the intervention."""


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

    def everywhere(
        self, values: Float[Tensor, "*rest chosen"], stop: int, start: int
    ) -> Float[Tensor, "*rest position"]:
        """Values at the grid's positions, and 0 at all others from `start` to before `stop`."""
        if len(self.grid.positions) == stop - start:
            return values
        empty = values.new_zeros((*values.shape[:-1], stop - start))
        return empty.index_copy(-1, self.positions - start, values)

    def at(
        self, beta: Float[Tensor, " row"], start: int = 0, first: Int[Tensor, " row"] | None = None
    ) -> Edit:
        """The intervention at one strength a row of a batch.

        Args:
            beta: the strengths.
            start: positions before this one are not run; none of them is part of the grid.
            first: each row's first position that may change, where rows have padding and a BOS
                before it (`Prompts.first`); all are run then.
        """
        return BoundIntervention(self.grid.site_layers, self.bind(beta, start), first)

    @abstractmethod
    def bind(self, beta: Float[Tensor, " row"], start: int) -> EditFunction:
        """What is done to an activation at strength `beta` a row, from position `start` on.

        Whatever does not depend on the activation is worked out here, once a forward.
        """

    def on(self, grid: PointGrid) -> Intervention | None:
        """The same parameters on prompts of another length; None where they are tied to positions.

        Args:
            grid: has the places and layers of this intervention's own.
        """
        return None

    @abstractmethod
    def theta(self) -> Float[Tensor, " parameter"]:
        """The parameters that take part, flat: what Eq. 8 and the minimality counts look at."""

    @abstractmethod
    def magnitudes(self) -> Float[Tensor, " unit"]:
        """|theta| by unit (|scalar|, or the norm of a vector): what `keep_largest` ranks."""

    @abstractmethod
    def masked(self, keep: Float[Tensor, " unit"]) -> Self:
        """A copy without gradient whose units are multiplied by `keep` (1 keeps, 0 removes)."""

    def at_points(self, keep: Bool[Tensor, "place layer position"]) -> Self:
        """A copy without gradient that acts at the chosen points alone."""
        chosen = deepcopy(self).requires_grad_(False)
        chosen.included &= keep.to(chosen.included.device)
        return chosen

    def keep_largest(self, k: int) -> Self:
        """A copy in which only the `k` units of largest magnitude are left."""
        magnitudes = self.magnitudes()
        keep = torch.zeros_like(magnitudes)
        keep[magnitudes.argsort(descending=True, stable=True)[:k]] = 1
        return self.masked(keep).to(self.included.device)


@dataclass(frozen=True)
class BoundIntervention:
    """An intervention at one strength a row: the `Edit` of a forward."""

    points: Collection[SiteLayer]
    function: EditFunction
    first: Int[Tensor, " row"] | None = None

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        """The activation after the intervention."""
        edited = self.function(site, layer, h)
        if self.first is None:
            return edited
        changes = behind(self.first, h.shape[1]).view(*h.shape[:2], *[1] * (h.dim() - 2))
        return torch.where(changes, edited, h)


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
        self.register_buffer("fits", _fits(grid, vectors), persistent=False)
        own = vectors if self.fits is None else vectors * self.fits[:, None, None]
        self.vectors = nn.Parameter(own.to(torch.float32, copy=True))

    fits: Tensor | None

    def bind(self, beta: Tensor, start: int) -> EditFunction:
        """Eq. 4."""
        taking_part = (self.vectors * self.included[..., None]).movedim(2, -1)
        everywhere = self.everywhere(taking_part, self.grid.n_positions, start).movedim(-1, 0)
        by_layer = everywhere.unbind(2)

        def add(site: Site, layer: int, h: Tensor) -> Tensor:
            vectors = by_layer[layer][:, self.grid.rows(site), : h.shape[-1]].reshape(h.shape[1:])
            wide = torch.promote_types(h.dtype, torch.float32)
            strength = beta.view(-1, *[1] * vectors.dim())
            return (h.to(wide) + strength * vectors).to(h.dtype)

        return add

    def theta(self) -> Tensor:
        """The entries of the vectors of the points that take part."""
        vectors = self.vectors[self.included]
        if self.fits is None:
            return vectors.flatten()
        return vectors[self.fits[:, None, None].expand_as(self.vectors)[self.included]]

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
    """Dynamic scalars, Eq. 10: alpha = g . h / ||h||, one gate g a (place, layer), then Eq. 5.

    h is the activation as it arrives during the steered run; at `o` it is W_O z, whose scaling is
    that of z. ||h|| = 0 gives alpha = 0. The gates are shared over positions, so that they act at
    any prompt length; the BOS is left alone, also where the grid has it.

    Args:
        grid: the points.
        gates: as wide as the widest place; entries beyond a place's own width are 0.
        output: W_O of every head, for grids with the site `o`.
    """

    unit = "gate entry"

    def __init__(
        self,
        grid: PointGrid,
        gates: Float[Tensor, "place layer width"],
        output: Float[Tensor, "layer head d_head d_model"] | None = None,
    ) -> None:
        super().__init__(grid)
        self.register_buffer("fits", _fits(grid, gates), persistent=False)
        own = gates if self.fits is None else gates * self.fits[:, None]
        self.gates = nn.Parameter(own.to(torch.float32, copy=True))
        acts = grid.included.clone()
        if grid.has_bos and 0 in grid.positions:
            acts[:, :, grid.positions.index(0)] = False
        self.register_buffer("acts", acts, persistent=False)
        if output is None and Site.O in grid.sites:
            raise ValueError("gates at o need W_O of every head")
        self.register_buffer("output", output, persistent=False)
        self.register_buffer(
            "gram", None if output is None else output @ output.mT, persistent=False
        )

    acts: Tensor
    fits: Tensor | None
    output: Tensor | None
    gram: Tensor | None

    def alpha(
        self, site: Site, layer: int, h: Float[Tensor, "row position *head width"], start: int = 0
    ) -> Float[Tensor, "row place chosen"]:
        """Eq. 10 at the grid's positions, 0 at points left out and BOS; h begins at `start`."""
        h = self.grid.at_points(site, h.to(torch.float32), start)
        rows = self.grid.rows(site)
        gates = self.gates[rows, layer]
        if site is Site.O:
            assert self.output is not None
            assert self.gram is not None
            gates = (self.output[layer] @ gates[..., None])[..., 0]
            square = torch.einsum("rpcd,pde,rpce->rpc", h, self.gram[layer], h)
            # The gradient of a root at 0 is no number; nothing is read off a head that writes 0.
            writes = square > 0
            norm = torch.where(writes, square, 1).sqrt()
        else:
            gates = gates[:, : h.shape[-1]]
            norm = torch.linalg.vector_norm(h, dim=-1)
            writes = norm > 0
        direction = h / norm.clamp_min(torch.finfo(torch.float32).tiny)[..., None]
        along = (direction @ gates[..., None])[..., 0]
        alpha: Tensor = torch.where(writes, along, 0) * self.acts[rows, layer]
        return alpha

    def bind(self, beta: Tensor, start: int) -> EditFunction:
        """Eq. 10, then Eq. 5."""

        def scale(site: Site, layer: int, h: Tensor) -> Tensor:
            alpha = self.everywhere(self.alpha(site, layer, h, start), start + h.shape[1], start)
            return scaled(h, 1 + beta[:, None, None] * alpha)

        return scale

    def at_points(self, keep: Tensor) -> Self:
        """A copy whose scalars are 0 at all other points."""
        chosen = super().at_points(keep)
        chosen.acts &= keep.to(chosen.acts.device)
        return chosen

    def theta(self) -> Tensor:
        """The entries of the gates."""
        if self.fits is None:
            return self.gates.flatten()
        return self.gates[self.fits[:, None].expand_as(self.gates)]

    def magnitudes(self) -> Tensor:
        """|g| entry by entry."""
        return self.theta().detach().abs()

    def on(self, grid: PointGrid) -> DynamicScaling:
        """The same gates at the positions of another grid."""
        return DynamicScaling(grid, self.gates.detach(), self.output)

    def masked(self, keep: Tensor) -> DynamicScaling:
        """The entries of the gates times `keep`."""
        full = torch.zeros_like(self.gates)
        if self.fits is None:
            full = keep.view_as(self.gates)
        else:
            full[self.fits[:, None].expand_as(self.gates)] = keep
        return DynamicScaling(self.grid, self.gates.detach() * full, self.output)


def behind(first: Int[Tensor, " row"], n_positions: int) -> Bool[Tensor, "row position"]:
    """True from each row's `first` position on."""
    return torch.arange(n_positions, device=first.device) >= first[:, None]


def scaled(
    h: Float[Tensor, "row position *head width"], factor: Float[Tensor, "row place position"]
) -> Float[Tensor, "row position *head width"]:
    """h times a factor a place and position, rounded once: 1 + 0.003 would be 1 in bf16."""
    wide = torch.promote_types(h.dtype, torch.float32)
    return (h.to(wide) * factor.movedim(1, -1).reshape(*h.shape[:-1], 1)).to(h.dtype)


def _fits(grid: PointGrid, parameters: Tensor) -> Tensor | None:
    """(place, width): the entries of parameters that a place's own width takes; None if all."""
    width = parameters.shape[-1]
    own = torch.tensor(grid.widths(width))
    if bool((own == width).all()):
        return None
    return (torch.arange(width) < own[:, None]).to(parameters.device)


Patch = tuple[tuple[Int[Tensor, " patch"], ...], Float[Tensor, "patch width"]]
"""Where in (row, position) or (row, position, head), and the activations to put there."""


class PatchedRows:
    """Activation patching: rows of the forward get other activations at some points.

    Args:
        patches: (site, layer) -> where, and what to put there; a row may appear once or at many
            points.
    """

    def __init__(self, patches: dict[SiteLayer, Patch]) -> None:
        self.patches = patches

    @property
    def points(self) -> Collection[SiteLayer]:
        """Every (site, layer) with a patch."""
        return self.patches.keys()

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        """`h` with its patched rows replaced."""
        where, values = self.patches[site, layer]
        return h.index_put(where, values.to(h.dtype))
