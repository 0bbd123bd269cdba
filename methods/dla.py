"""DLA: direct logit attribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from methods.core.final_norm import FinalNorm
from methods.core.points import PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting


@dataclass(frozen=True)
class DLA(Method):
    """The score of a point is its activation times the answer-foil direction of the unembedding.

    The final norm is a linear map whose scale is frozen at the last layer's residual stream of the
    same position. At the answer position the scores of every `attn_out` and `mlp_out`, the input
    of block 0 and a constant add up to the logit difference before any soft cap.

    Source: 'A Mathematical Framework for Transformer Circuits' (Elhage et al. 2021); used at every
    position in 'Activation Scaling for Steering and Interpreting Language Models' (2024), Fig. 9.

    Attributes:
        form: `paper` scores every position, each with the scale of its own final residual;
            `strict` only the answer position, where the effect is direct, and 0 elsewhere.
    """

    form: Literal["paper", "strict"] = "paper"

    @torch.no_grad()
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """One forward, whatever the number of points; its logits check the linear map.

        Raises:
            UnknownFinalNormError: if the model does not end in a norm and an unembedding.
        """
        final = (Site.RESID_POST, grid.n_layers - 1)
        activations, logits = subject.activations_and_logits(
            prompts.tokens, {*grid.site_layers, final}
        )
        norm = FinalNorm.of(subject)
        residual = activations[final].float()
        architecture = str(subject.bridge.cfg.architecture)
        norm.check(architecture, residual[:, -1], prompts, logits, subject.tolerance)

        directions = norm.directions(prompts.answers, prompts.foils, residual)
        positions = list(grid.positions)
        scores = torch.zeros((len(prompts), *grid.shape), device=subject.device)
        for site, layer in grid.site_layers:
            product = (activations[site, layer].float() * directions).sum(dim=-1)
            scores[:, grid.sites.index(site), layer] = product[:, positions]
        if self.form == "strict":
            scores[..., [at != prompts.n_positions - 1 for at in positions]] = 0
        return Attribution(scores.mean(dim=0), prompt_scores=scores)
