"""Patched runs as rows of ordinary forwards: slower than `ResumedRun`, and works on any model."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.corruption import Contrast
from methods.core.patches import Patches, patched_rows
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

    def logit_differences(self, patches: Patches) -> Float[Tensor, " patch"]:
        """LD of the receiver with one activation replaced, a row a patch."""
        receiver = self.contrast.receiver
        ld = torch.empty(len(patches), device=self.subject.device)
        for rows in self.subject.chunks(len(patches)):
            index = patches[rows]
            prompts = receiver.prompts.take(index[:, 0])
            noise = None if receiver.noise is None else receiver.noise[index[:, 0]]
            edit = patched_rows(self.grid, self.contrast, index, torch.arange(len(index)))
            logits = self.subject.logits(prompts.tokens, edit, noise)
            ld[rows] = prompts.logit_difference(logits)
        return ld
