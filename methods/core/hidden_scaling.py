"""Dynamic activation scalars by a hidden layer: Eq. 10 with a richer function of the activation.

Source: 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr et al.,
Findings of EMNLP 2024), Eq. 10, whose scalar is linear in the direction of the activation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.core.dynamic_scaling import DynamicScaling
from methods.core.points import PointGrid, Site

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda read: read,
    "relu": torch.relu,
    "tanh": torch.tanh,
}
"""What a hidden unit makes of what it reads; all give 0 of 0."""


class HiddenScaling(DynamicScaling):
    """Eq. 10 with a hidden layer: alpha = sum over units n of w_n f(u_n . h / ||h||).

    With f linear that is Eq. 10 of g = sum of w_n u_n. Then u may also be shared by the layers of a
    place, whose gates are then a matrix (layer, width) of rank n at most. Everything else is as
    Eq. 10 has it. What Eq. 8 and the counts look at are the products w_n u_n entry by entry, of one
    linear unit g's own.

    Args:
        grid: the points.
        gates: u of every unit, for each layer or, with a layer axis of 1, for all of them; as wide
            as the widest place.
        outer: w of every unit.
        output: W_O of every head, without which gates at `o` cannot act.
        activation: f, by its name in `ACTIVATIONS`.
    """

    def __init__(
        self,
        grid: PointGrid,
        gates: Float[Tensor, "place shared unit width"],
        outer: Float[Tensor, "place layer unit"],
        output: Float[Tensor, "layer head d_head d_model"] | None = None,
        *,
        activation: str,
    ) -> None:
        super().__init__(grid, gates, output)
        self.outer = nn.Parameter(outer.to(torch.float32, copy=True))
        self.activation = activation

    def read_by(self, site: Site, layer: int) -> Float[Tensor, "place width unit"]:
        """u of every unit."""
        return self.gates[self.grid.rows(site), layer % self.gates.shape[1]].mT

    def scalars_of(
        self, read: Float[Tensor, "row place chosen unit"], site: Site, layer: int
    ) -> Float[Tensor, "row place chosen"]:
        """f of what each unit read, weighted by w."""
        hidden = ACTIVATIONS[self.activation](read)
        weights = self.outer[self.grid.rows(site), layer]
        return (hidden @ weights[..., None])[..., 0]

    def entries(self) -> Float[Tensor, "place layer unit width"]:
        """w_n u_n of every unit."""
        return self.outer[..., None] * self.gates

    def remade(
        self,
        grid: PointGrid,
        gates: Float[Tensor, "place layer *unit width"],
        output: Tensor | None,
    ) -> HiddenScaling:
        """The same with other u."""
        outer, activation = self.outer.detach(), self.activation
        return HiddenScaling(grid, gates, outer, output, activation=activation)
