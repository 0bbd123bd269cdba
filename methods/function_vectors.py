"""FunctionVectors: what the mean clean activation of a point does for the answer's probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.corruption import Contrast, contrasts
from methods.core.patches import reachable_patches
from methods.core.points import PointGrid
from methods.core.prompts import Prompts, gather
from methods.core.stacked import StackedRun
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting


@dataclass(frozen=True)
class FunctionVectors(Method):
    """The score of a point is the probability of the answer that its mean clean activation brings.

    The mean over the clean train prompts takes the place of the corrupted run's activation at the
    point: P(answer | patched) - P(answer | corrupted), the causal indirect effect. The mean keeps
    what the prompts have in common, their function, and loses their words. Heads with the largest
    scores (`z` at the last position) are those whose mean outputs the paper adds up to a vector;
    here the scores steer as scalars.

    Source: 'Function Vectors in Large Language Models' (Todd et al. 2024), Eq. 3 and 4.
    """

    runs_every_point: ClassVar[bool] = True

    @torch.no_grad()
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """A forward of either run, and one a point and prompt."""
        (pair,) = contrasts(subject, prompts, grid, "counterfactual", "denoising", setting.seed)
        mean = {
            point: h.float().mean(dim=0, keepdim=True).to(h.dtype).expand_as(h)
            for point, h in pair.donated.items()
        }
        contrast = Contrast(pair.receiver, lambda: mean, pair.sign)
        patches = reachable_patches(subject, grid, contrast)
        corrupted = pair.receiver.prompts
        before = answer_probability(corrupted, subject.unsteered_logits(corrupted.tokens))
        scores = torch.zeros((len(prompts), *grid.shape), device=subject.device)
        after = StackedRun(subject, grid, contrast).read(patches, answer_probability)
        scores[tuple(patches.T)] = after - before[patches[:, 0]]
        return Attribution(scores.mean(dim=0), prompt_scores=scores)


def answer_probability(
    prompts: Prompts, logits: Float[Tensor, "row vocab"]
) -> Float[Tensor, " row"]:
    """P(answer) of each row."""
    return gather(logits.softmax(dim=-1), prompts.answers)
