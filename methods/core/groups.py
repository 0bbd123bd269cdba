"""The model as a function of where groups of points lie between a donor's activation and their own.

G(gamma) is LD of a run with every chosen activation at h_donated + gamma (h - h_donated), h as it
arrives in that run, one gamma a group: whatever attributes a function attributes points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.core.corruption import Contrast
from methods.core.paths import Between
from methods.core.points import PointGrid
from methods.core.subject import SubjectModel

Grouping = Literal["point", "layer", "position"]
"""What moves together: nothing; the points of a site in one layer; those of a site at one
position."""


def groups_of(grid: PointGrid, grouping: Grouping) -> Int[Tensor, "place layer position"]:
    """The group of every point, counted from 0; -1 of points that are left out."""
    _, n_layers, n_positions = grid.shape
    site = torch.tensor([grid.sites.index(place.site) for place in grid.places])[:, None, None]
    layer = torch.arange(n_layers)[None, :, None]
    position = torch.arange(n_positions)[None, None]
    index = {
        "point": torch.arange(grid.included.numel()).view(grid.shape),
        "layer": site * n_layers + layer,
        "position": site * n_positions + position,
    }[grouping].expand(grid.shape)
    taking_part = index[grid.included]
    groups = torch.full(grid.shape, -1)
    groups[grid.included] = torch.searchsorted(
        torch.tensor(sorted(set(taking_part.tolist()))), taking_part
    )
    return groups


@dataclass(frozen=True, eq=False)
class GroupFunction:
    """G of some prompts, for many rows of gammas at once.

    Rows go through the model in forwards of at most `rows_per_forward`, each with its backward at
    once where a gradient is asked for, so that memory does not grow with the number of rows.

    Attributes:
        subject: the model.
        grid: the points.
        contrast: the run, and the activations at gamma = 0.
        groups: the group of every point; see `groups_of`.
    """

    subject: SubjectModel
    grid: PointGrid
    contrast: Contrast
    groups: Int[Tensor, "place layer position"]

    def __call__(
        self, gammas: Float[Tensor, "row group"], rows: Int[Tensor, " row"]
    ) -> Float[Tensor, " row"]:
        """LD of each row, which is of that prompt of the contrast."""
        found: Tensor = _InChunks.apply(gammas, rows, self)  # type: ignore[no-untyped-call]
        return found

    def of_chunk(
        self, gammas: Float[Tensor, "row group"], rows: Int[Tensor, " row"]
    ) -> Float[Tensor, " row"]:
        """LD of the rows of one forward."""
        kept = gammas.new_ones((len(gammas), 1))  # the group -1
        gates = torch.cat([gammas, kept], dim=1)[:, self.groups]
        edit = Between(self.grid, self.contrast.donated, gates, self.grid.site_layers, rows)
        receiver = self.contrast.receiver
        prompts = receiver.prompts.take(rows)
        noise = None if receiver.noise is None else receiver.noise[rows]
        return prompts.logit_difference(self.subject.logits(prompts.tokens, edit, noise))


class _InChunks(torch.autograd.Function):
    """A group function, whose gradient is taken chunk by chunk while it is computed."""

    @staticmethod
    def forward(ctx: Any, gammas: Tensor, prompts: Tensor, function: GroupFunction) -> Tensor:
        subject, with_gradient = function.subject, ctx.needs_input_grad[0]
        values: list[Tensor] = []
        gradients: list[Tensor] = []
        for rows in subject.chunks(len(gammas)):
            with torch.set_grad_enabled(with_gradient):
                chunk = gammas[rows].detach().requires_grad_(with_gradient)
                ld = function.of_chunk(chunk, prompts[rows])
                if with_gradient:
                    subject.backward(ld.sum(), len(chunk))
                    assert chunk.grad is not None
                    gradients.append(chunk.grad)
            values.append(ld.detach())
        if with_gradient:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        return outer[0][:, None] * gradients, None, None
