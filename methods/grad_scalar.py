"""GradScalar: the exact derivative of the logit difference in each activation scalar."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting


@dataclass(frozen=True)
class GradScalar(Method):
    """The score of a point is h . dLD/dh on the clean run.

    That is dLD/d alpha of Eq. 5 at alpha = 0: the training-free rival of ActivScalar, and
    AttrPatch (noising) with the zero baseline.
    """

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """One forward and one backward, whatever the number of points."""
        scores = torch.zeros((len(prompts), *grid.shape), device=subject.device)
        taps = subject.activations_and_gradients(prompts, grid.site_layers)
        for (site, layer), (h, gradient) in taps.items():
            product = (h.float() * gradient.float()).sum(dim=-1)
            scores[:, grid.rows(site), layer] = grid.at_points(site, product)
        return Attribution(scores.mean(dim=0), prompt_scores=scores)
