"""Patched runs as rows of ordinary forwards: slower than `ResumedRun`, and works on any model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.corruption import Contrast
from methods.core.patches import Patches, patched_rows
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel

Measure = Callable[[Prompts, Float[Tensor, "row vocab"]], Float[Tensor, " row"]]


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
        return self.read(patches, Prompts.logit_difference)

    def read(
        self, patches: Patches, measure: Measure, everywhere: Patches | None = None
    ) -> Float[Tensor, " patch"]:
        """What is measured of the receiver with one activation replaced, a row a patch.

        Args:
            patches: the patches.
            measure: one number a row, from the rows' prompts and logits.
            everywhere: further patches, each made in all rows of its prompt.
        """
        receiver = self.contrast.receiver
        found = torch.empty(len(patches), device=self.subject.device)
        for rows in self.subject.chunks(len(patches)):
            index = patches[rows]
            prompts = receiver.prompts.take(index[:, 0])
            noise = None if receiver.noise is None else receiver.noise[index[:, 0]]
            row = torch.arange(len(index))
            if everywhere is not None:
                at, which = (index[:, :1] == everywhere[:, 0]).nonzero().T
                index, row = torch.cat([index, everywhere[which]]), torch.cat([row, at])
            edit = patched_rows(self.grid, self.contrast, index, row)
            found[rows] = measure(prompts, self.subject.logits(prompts.tokens, edit, noise))
        return found
