"""What an intervention is: parameters at points, and the edit of a forward they are bound to.

An intervention holds parameters for the points of a grid; `at(beta)` binds it to one strength a row
and gives the `Edit` that a forward of the subject model takes. All points of a forward act
together: a later point sees what the earlier ones did. At beta = 0 every activation is multiplied
by exactly 1 or added exactly 0, so the logits are those of the unmodified run, bit for bit.

Source: 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr et al.,
Findings of EMNLP 2024).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
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
        self.first_position = min(grid.positions)
        # A copy, since the grid may have been made within inference_mode and this is trained with.
        self.register_buffer("included", grid.included.clone(), persistent=False)
        self.register_buffer("positions", torch.tensor(grid.positions), persistent=False)

    first_position: int
    """No point before this position takes part."""
    included: Tensor
    positions: Tensor

    def everywhere(
        self, values: Float[Tensor, "*rest chosen"], stop: int, start: int
    ) -> Float[Tensor, "*rest position"]:
        """Values at the grid's positions, or at those from `start` on, and 0 at all others from
        `start` to before `stop`."""
        n_run = sum(position >= start for position in self.grid.positions)
        values = values[..., -n_run:]
        if n_run == stop - start:
            return values
        empty = values.new_zeros((*values.shape[:-1], stop - start))
        return empty.index_copy(-1, self.positions[-n_run:] - start, values)

    def at(
        self, beta: Float[Tensor, " row"], start: int = 0, first: Int[Tensor, " row"] | None = None
    ) -> Edit:
        """The intervention at one strength a row of a batch.

        Args:
            beta: the strengths.
            start: positions before this one are not run; no point of theirs takes part.
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
        """Sizes of theta by unit (of a scalar, or a vector's norm): what `keep_largest` ranks."""

    @abstractmethod
    def masked(self, keep: Float[Tensor, " unit"]) -> Self:
        """A copy without gradient whose units are multiplied by `keep` (1 keeps, 0 removes)."""

    @torch.no_grad()
    def shrink(self, amounts: Sequence[Tensor]) -> None:
        """Moves every parameter towards 0 by its amount, and to exactly 0 where that is enough.

        The proximal step of an L1 norm. Kinds whose units are vectors shrink whole vectors.

        Args:
            amounts: one tensor a parameter, of its shape, all >= 0.
        """
        for parameter, amount in zip(self.parameters(), amounts, strict=True):
            parameter.copy_(parameter.sign() * torch.relu(parameter.abs() - amount))

    def at_points(self, keep: Bool[Tensor, "place layer position"]) -> Self:
        """A copy without gradient that acts at the chosen points alone."""
        chosen = deepcopy(self).requires_grad_(False)
        chosen.included &= keep.to(chosen.included.device)
        positions = chosen.included.any(dim=0).any(dim=0).nonzero()[:, 0].tolist()
        if positions:
            chosen.first_position = self.grid.positions[positions[0]]
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


def behind(first: Int[Tensor, " row"], n_positions: int) -> Bool[Tensor, "row position"]:
    """True from each row's `first` position on."""
    return torch.arange(n_positions, device=first.device) >= first[:, None]


def scaled(
    h: Float[Tensor, "row position *head width"], factor: Float[Tensor, "row place position"]
) -> Float[Tensor, "row position *head width"]:
    """h times a factor a place and position, rounded once: 1 + 0.003 would be 1 in bf16."""
    wide = torch.promote_types(h.dtype, torch.float32)
    return (h.to(wide) * factor.movedim(1, -1).reshape(*h.shape[:-1], 1)).to(h.dtype)


def widths_taken(grid: PointGrid, parameters: Tensor) -> Tensor | None:
    """(place, width): the entries of parameters that a place's own width takes; None if all."""
    width = parameters.shape[-1]
    own = torch.tensor(grid.widths(width))
    if bool((own == width).all()):
        return None
    return (torch.arange(width) < own[:, None]).to(parameters.device)
