"""ActivPatch: activation patching, one patched forward a point."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from methods.contrasted import ContrastedMethod
from methods.core.corruption import Contrast
from methods.core.patches import Patches, reachable_patches
from methods.core.points import PointGrid
from methods.core.resumed import CannotResumeError, ResumedRun
from methods.core.stacked import StackedRun
from methods.core.subject import SubjectModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ActivPatch(ContrastedMethod):
    """The score of a point is what its clean activation is worth in logit difference.

    Noising: LD(clean) - LD(clean run with this activation from the corrupted run).
    Denoising: LD(corrupted run with this clean activation) - LD(corrupted).
    A point whose activation is the same in both runs, or from which no path leads to the answer
    position, scores exactly 0 without being run.

    Source: 'Locating and Editing Factual Associations in GPT' (Meng et al. 2022) for denoising;
    'How to use and interpret activation patching' (Heimersheim and Nanda 2024) for both.
    """

    runs_every_point: ClassVar[bool] = True

    def contrast_scores(
        self, subject: SubjectModel, grid: PointGrid, contrast: Contrast
    ) -> Float[Tensor, "prompt place layer position"]:
        """Runs every patch of every prompt, from its layer and its position on."""
        return patch_scores(subject, grid, contrast)


@torch.no_grad()
def patch_scores(
    subject: SubjectModel, grid: PointGrid, contrast: Contrast, patches: Patches | None = None
) -> Float[Tensor, "prompt place layer position"]:
    """sign (LD(receiver) - LD(receiver with one activation replaced)) for every point.

    `patches` are the reachable ones, where they are known already.
    """
    patches = reachable_patches(subject, grid, contrast) if patches is None else patches
    scores = torch.zeros((len(contrast.receiver.prompts), *grid.shape), device=subject.device)
    if len(patches):
        run = _patched_run(subject, grid, contrast)
        change = run.unpatched[patches[:, 0]] - run.logit_differences(patches)
        scores[tuple(patches.T)] = contrast.sign * change
    return scores


def _patched_run(
    subject: SubjectModel, grid: PointGrid, contrast: Contrast
) -> ResumedRun | StackedRun:
    """The fast way to run patches where the model can be driven so, else the slow one."""
    try:
        return ResumedRun(subject, grid, contrast)
    except CannotResumeError as error:
        logger.warning(
            "patches: %s cannot be resumed at a layer (%s); every patch runs through the "
            "whole model instead, which takes longer",
            subject.bridge.cfg.architecture,
            error,
        )
        return StackedRun(subject, grid, contrast)
