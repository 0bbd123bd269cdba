"""LogitLens: what the residual stream would say if it were read at the point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from methods.core.final_norm import FinalNorm
from methods.core.points import PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting


@dataclass(frozen=True)
class LogitLens(Method):
    """The score of a point is the logit difference of its residual stream, unembedded there.

    The final norm (with the scale of this stream), the unembedding and any soft cap are applied as
    if the point were the last layer. At the last layer's answer position that is LD itself. It says
    what can be read off, and nothing of what later layers read: a floor for causal methods.

    Source: 'interpreting GPT: the logit lens' (nostalgebraist 2020).
    """

    sites: ClassVar[frozenset[Site]] = frozenset({Site.RESID_MID, Site.RESID_POST})
    """Only the stream itself is what the final norm reads."""

    @torch.no_grad()
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """One forward, whatever the number of points; its logits check the unembedding.

        Raises:
            UnknownFinalNormError: if the model does not end in a norm and an unembedding.
        """
        final = (Site.RESID_POST, grid.n_layers - 1)
        points = {*grid.site_layers, final}
        activations, logits = subject.activations_and_logits(prompts.tokens, points)
        norm = FinalNorm.checked(subject, activations[final][:, -1].float(), logits)
        scores = torch.zeros((len(prompts), *grid.shape), device=subject.device)
        for site, layer in grid.site_layers:
            streams = activations[site, layer][:, list(grid.positions)].float()
            ld = norm.logit_difference(streams, prompts.answers, prompts.foils)
            scores[:, grid.rows(site), layer] = ld[:, None]
        return Attribution(scores.mean(dim=0), prompt_scores=scores)
