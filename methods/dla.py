"""DLA: direct logit attribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from methods.core.attention_output import AttentionOutput
from methods.core.final_norm import FinalNorm
from methods.core.points import ALL_SITES, HEAD_SITES, PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting


@dataclass(frozen=True)
class DLA(Method):
    """The score of a point is its activation times the answer-foil direction of the unembedding.

    The final norm is a linear map whose scale is frozen at the last layer's residual stream of the
    same position. At the answer position the scores of every `attn_out` and `mlp_out`, the input
    of block 0 and a constant add up to the logit difference before any soft cap.

    At `z` and `o` (the same scores) a head's activation goes through W_O and any norm behind the
    attention, whose scale is frozen too.

    Source: 'A Mathematical Framework for Transformer Circuits' (Elhage et al. 2021); used at every
    position in 'Activation Scaling for Steering and Interpreting Language Models' (2024), Fig. 9.

    Attributes:
        form: `paper` scores every position, each with the scale of its own final residual;
            `strict` only the answer position, where the effect is direct, and 0 elsewhere.
    """

    sites: ClassVar[frozenset[Site]] = ALL_SITES - {Site.Q, Site.K, Site.V}
    """These reach the residual stream through the attention pattern alone."""

    form: Literal["paper", "strict"] = "paper"

    @torch.no_grad()
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """One forward, whatever the number of points; its logits check the linear map.

        Raises:
            UnknownFinalNormError: if the model does not end in a norm and an unembedding.
            UnknownAttentionOutputError: if heads do not reach the residual stream through W_O.
        """
        final = (Site.RESID_POST, grid.n_layers - 1)
        points = {*grid.site_layers, final}
        if HEAD_SITES.intersection(grid.sites):
            points |= {(Site.ATTN_OUT, layer) for layer in range(grid.n_layers)}
            points |= {(Site.Z, layer) for layer in range(grid.n_layers)}
        activations, logits = subject.activations_and_logits(prompts.tokens, points)
        residual = activations[final].float()
        norm = FinalNorm.checked(subject, residual[:, -1], logits)

        directions = norm.directions(prompts.answers, prompts.foils, residual)
        scores = torch.zeros((len(prompts), *grid.shape), device=subject.device)
        for site, layer in grid.site_layers:
            along, h = directions, activations[site, layer].float()
            if site in HEAD_SITES:
                output = AttentionOutput.of(subject, layer)
                h = activations[Site.Z, layer].float()
                output.check(h, activations[Site.ATTN_OUT, layer].float(), subject.tolerance)
                along = output.head_directions(directions, h)
            scores[:, grid.rows(site), layer] = grid.at_points(site, (h * along).sum(dim=-1))
        if self.form == "strict":
            at_answer = [at == prompts.n_positions - 1 for at in grid.positions]
            scores *= torch.tensor(at_answer, device=scores.device)
        return Attribution(scores.mean(dim=0), prompt_scores=scores)
