"""CoAx: what a point does once the strongest points are gone, minus what it does beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from methods.activ_patch import patch_scores
from methods.contrasted import ContrastedMethod
from methods.core.corruption import Contrast
from methods.core.patches import reachable_patches
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.stacked import StackedRun
from methods.core.subject import SubjectModel
from methods.core.training import PositiveInt
from tasks.errors import UserInputError


@dataclass(frozen=True)
class CoAx(ContrastedMethod):
    """The score of a point is the effect of its patch once S is patched, minus its effect alone.

    S are the k points whose patches alone do most for the answer, on average over prompts. A point
    that scores high is a backup: it does little as long as S is there, and makes up for it when it
    is gone. A point whose work is S's scores below 0. Points of S score 0.

    Source: 'Conditional Co-Ablation: Recovering Self-Repair Backups in Transformer Circuits' (Gong,
    Zeng, Yuen and Lim 2026), whose effects are sizes in the Fisher metric of the output; here they
    are logit differences with their sign.

    Attributes:
        k: points of S.
    """

    runs_every_point: ClassVar[bool] = True

    k: PositiveInt = 4

    @torch.no_grad()
    def contrast_scores(
        self, subject: SubjectModel, grid: PointGrid, contrast: Contrast
    ) -> Float[Tensor, "prompt place layer position"]:
        """ActivPatch, and one more forward a patch.

        Raises:
            UserInputError: if no point is left beside S.
        """
        patches = reachable_patches(subject, grid, contrast)
        alone = patch_scores(subject, grid, contrast, patches)
        strength = alone.mean(dim=0).cpu().masked_fill(~grid.included, -torch.inf)
        order = strength.flatten().argsort(descending=True, stable=True)
        strongest = torch.zeros(grid.shape, dtype=torch.bool)
        strongest.view(-1)[order[: self.k]] = True
        gone = strongest[tuple(patches[:, 1:].T)]
        if bool(gone.all()):
            raise UserInputError(f"k: beside the {self.k} strongest points no patch does anything.")
        n_prompts = len(contrast.receiver.prompts)
        rest = patches[~gone]
        run = StackedRun(subject, grid, contrast)
        # The row without a further patch repeats one of S.
        first = [patches[gone & (patches[:, 0] == prompt)][:1] for prompt in range(n_prompts)]
        everywhere = patches[gone]
        ld = run.read(rest, Prompts.logit_difference, everywhere)
        without = run.unpatched.clone()
        bare = torch.cat(first)
        if len(bare):
            without[bare[:, 0]] = run.read(bare, Prompts.logit_difference, everywhere)
        scores = torch.zeros_like(alone)
        scores[tuple(rest.T)] = contrast.sign * (without[rest[:, 0]] - ld)
        scores[tuple(rest.T)] -= alone[tuple(rest.T)]
        return scores
