"""Dynamic activation scalars, Eq. 10.

Source: 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr et al.,
Findings of EMNLP 2024).
"""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.core.intervention import EditFunction, Intervention, scaled, widths_taken
from methods.core.points import PointGrid, Site


class DynamicScaling(Intervention):
    """Dynamic scalars, Eq. 10: alpha = g . h / ||h||, one gate g a (place, layer), then Eq. 5.

    h is the activation as it arrives during the steered run; at `o` it is W_O z, whose scaling is
    that of z. ||h|| = 0 gives alpha = 0. The gates are shared over positions, so that they act at
    any prompt length; the BOS is left alone, also where the grid has it.

    Args:
        grid: the points.
        gates: as wide as the widest place; entries beyond a place's own width are 0.
        output: W_O of every head, without which gates at `o` cannot act.
    """

    unit = "gate entry"

    def __init__(
        self,
        grid: PointGrid,
        gates: Float[Tensor, "place layer *unit width"],
        output: Float[Tensor, "layer head d_head d_model"] | None = None,
    ) -> None:
        super().__init__(grid)
        self.register_buffer("fits", widths_taken(grid, gates), persistent=False)
        own = gates if self.fits is None else gates * self._taken(gates)
        self.gates = nn.Parameter(own.to(torch.float32, copy=True))
        acts = grid.included.clone()
        if grid.has_bos and 0 in grid.positions:
            acts[:, :, grid.positions.index(0)] = False
        self.register_buffer("acts", acts, persistent=False)
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
        """Eq. 10 at the grid's positions from `start` on, where h begins; 0 at points left out
        and BOS."""
        h = self.grid.at_points(site, h.to(torch.float32), start)
        rows = self.grid.rows(site)
        gates = self.read_by(site, layer)
        if site is Site.O:
            if self.output is None or self.gram is None:
                raise ValueError("gates at o need W_O of every head")
            gates = self.output[layer] @ gates
            square = torch.einsum("rpcd,pde,rpce->rpc", h, self.gram[layer], h)
            # The gradient of a root at 0 is no number; nothing is read off a head that writes 0.
            writes = square > 0
            norm = torch.where(writes, square, 1).sqrt()
        else:
            gates = gates[:, : h.shape[-1]]
            norm = torch.linalg.vector_norm(h, dim=-1)
            writes = norm > 0
        direction = h / norm.clamp_min(torch.finfo(torch.float32).tiny)[..., None]
        along = self.scalars_of(direction @ gates, site, layer)
        acts = self.acts[rows, layer, -along.shape[-1] :]
        alpha: Tensor = torch.where(writes, along, 0) * acts
        return alpha

    def read_by(self, site: Site, layer: int) -> Float[Tensor, "place width unit"]:
        """What directions of activations are read along."""
        return self.gates[self.grid.rows(site), layer][..., None]

    def scalars_of(
        self, read: Float[Tensor, "row place chosen unit"], site: Site, layer: int
    ) -> Float[Tensor, "row place chosen"]:
        """The scalars, from what was read along `read_by`."""
        return read[..., 0]

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

    def entries(self) -> Float[Tensor, "place layer *unit width"]:
        """The entries of the gates, those beyond a place's own width included."""
        return self.gates

    def _taken(self, entries: Tensor) -> Tensor:
        """Which entries are within a place's own width; broadcasts to their shape."""
        if self.fits is None:
            return torch.ones_like(entries, dtype=torch.bool)
        return self.fits.view(len(self.fits), *[1] * (entries.dim() - 2), -1)

    def theta(self) -> Tensor:
        """The entries of the gates."""
        entries = self.entries()
        if self.fits is None:
            return entries.flatten()
        return entries[self._taken(entries).expand_as(entries)]

    def magnitudes(self) -> Tensor:
        """|g| entry by entry."""
        return self.theta().detach().abs()

    def remade(
        self,
        grid: PointGrid,
        gates: Float[Tensor, "place layer *unit width"],
        output: Tensor | None,
    ) -> DynamicScaling:
        """The same with other gates, on a grid of the same places, and with a W_O."""
        return DynamicScaling(grid, gates, output)

    def on(self, grid: PointGrid) -> DynamicScaling | None:
        """The same gates at the positions of another grid; None if kept at chosen points alone."""
        if not torch.equal(self.included.cpu(), self.grid.included):
            return None
        return self.remade(grid, self.gates.detach(), self.output)

    def masked(self, keep: Tensor) -> DynamicScaling:
        """The entries of the gates times `keep`, at the same points."""
        full = torch.zeros_like(self.entries())
        full[self._taken(full).expand_as(full)] = keep
        kept = self.remade(self.grid, self.gates.detach() * full, self.output)
        kept.included.copy_(self.included)
        kept.acts.copy_(self.acts)
        return kept
