"""Patched runs as rows of ordinary forwards: slower than `ResumedRun`, and works on any model."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.core.corruption import Contrast
from methods.core.hooks import SiteLayer
from methods.core.intervention import PatchedRows
from methods.core.points import PointGrid
from methods.core.subject import SubjectModel


class StackedRun:
    """Runs every patch through the whole model, many patches as rows of one forward.

    Attributes:
        unpatched: LD of the contrast's receiver.
    """

    def __init__(self, subject: SubjectModel, grid: PointGrid, contrast: Contrast) -> None:
        self.subject, self.grid, self.contrast = subject, grid, contrast
        self.unpatched: Float[Tensor, " prompt"] = contrast.receiver.logit_difference(subject)

    def logit_differences(
        self, patches: Int[Tensor, "patch prompt_site_layer_position"]
    ) -> Float[Tensor, " patch"]:
        """LD of the receiver with one activation replaced, a patch a row.

        Args:
            patches: (prompt, index of the site, layer, index of the position).
        """
        receiver = self.contrast.receiver
        ld = torch.empty(len(patches), device=patches.device)
        for rows in self.subject.chunks(len(patches)):
            index = patches[rows]
            prompts = receiver.prompts.take(index[:, 0])
            noise = None if receiver.noise is None else receiver.noise[index[:, 0]]
            logits = self.subject.logits(prompts.tokens, self._edit(index), noise)
            ld[rows] = prompts.logit_difference(logits)
        return ld

    def _edit(self, patches: Tensor) -> PatchedRows:
        """The edit that makes row r of a forward carry out patch r."""
        positions = torch.tensor(self.grid.positions, device=patches.device)
        edits: dict[SiteLayer, tuple[Tensor, Tensor, Tensor]] = {}
        for site, layer in torch.unique(patches[:, 1:3], dim=0).tolist():
            point = self.grid.sites[site], layer
            rows = ((patches[:, 1] == site) & (patches[:, 2] == layer)).nonzero()[:, 0]
            where = positions[patches[rows, 3]]
            edits[point] = rows, where, self.contrast.donated[point][patches[rows, 0], where]
        return PatchedRows(edits)
