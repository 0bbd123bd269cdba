"""DirectEffect: what a point does to the logits with all later layers held as they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods.contrasted import ContrastedMethod
from methods.core.attention_output import AttentionOutput
from methods.core.corruption import Contrast
from methods.core.final_norm import FinalNorm
from methods.core.hooks import Activations
from methods.core.points import ALL_SITES, HEAD_SITES, PointGrid, Site
from methods.core.subject import SubjectModel


@dataclass(frozen=True)
class DirectEffect(ContrastedMethod):
    """The score of a point is the effect of its patch on the logits, by the direct path alone.

    Its activation comes from the other run and every later attention and MLP gives what it gave in
    the unpatched run, so that the final residual stream changes by just what the point adds to it.
    Only points at the answer position have a direct effect; all others score 0. ActivPatch minus
    this is the indirect effect. With the final scale held and the zero baseline it is DLA's strict
    form; with a counterfactual, the difference of the two runs' DLA at the receiver's scale.

    Source: 'Interpretability in the Wild: A Circuit for Indirect Object Identification in GPT-2
    Small' (Wang et al. 2023), path patching; 'Localizing Model Behavior with Path Patching'
    (Goldowsky-Dill et al. 2023).

    Attributes:
        scale: of the final norm, and of a norm behind the attention where a head is patched:
            `live` follows the patch and any soft cap behind the unembedding is applied; `held`
            keeps the receiver's scale, and LD is that before the soft cap.
    """

    sites: ClassVar[frozenset[Site]] = ALL_SITES - {Site.Q, Site.K, Site.V}
    """These reach the residual stream through the attention pattern alone."""

    scale: Literal["live", "held"] = "live"

    @torch.no_grad()
    def contrast_scores(
        self, subject: SubjectModel, grid: PointGrid, contrast: Contrast
    ) -> Float[Tensor, "prompt place layer position"]:
        """One forward of either run; patches need none.

        Raises:
            UnknownFinalNormError: if the model does not end in a norm and an unembedding.
            UnknownAttentionOutputError: if heads do not reach the residual stream through W_O.
        """
        prompts = contrast.receiver.prompts
        scores = torch.zeros((len(prompts), *grid.shape), device=subject.device)
        answer = prompts.n_positions - 1
        if answer not in grid.positions:
            return scores
        final = (Site.RESID_POST, grid.n_layers - 1)
        points = {*grid.site_layers, final}
        if HEAD_SITES.intersection(grid.sites):
            points |= {
                (site, at) for at in range(grid.n_layers) for site in (Site.Z, Site.ATTN_OUT)
            }
        ours, logits = subject.activations_and_logits(
            prompts.tokens, points, contrast.receiver.noise
        )
        residual = ours[final][:, -1].float()
        norm = FinalNorm.checked(subject, residual, logits)
        ids = prompts.answers, prompts.foils
        unpatched = norm.logit_difference(residual, *ids)
        directions = norm.directions(*ids, residual[:, None])
        for site, layer in grid.site_layers:
            change = self._change(subject, contrast, ours, site, layer)
            if self.scale == "held":
                effect = (change * directions).sum(dim=-1)
            else:
                patched = (residual[:, None] - change).movedim(1, 0)
                found = [norm.logit_difference(of_place, *ids) for of_place in patched]
                effect = unpatched[:, None] - torch.stack(found, dim=1)
            at = grid.positions.index(answer)
            scores[:, grid.rows(site), layer, at] = contrast.sign * effect
        return scores

    def _change(
        self, subject: SubjectModel, contrast: Contrast, ours: Activations, site: Site, layer: int
    ) -> Float[Tensor, "prompt place d_model"]:
        """What the receiver's final residual stream loses by the patch of each place."""
        h, donated = ours[site, layer].float(), contrast.donated[site, layer].float()
        change = h[:, -1] - donated[:, -1]
        if site not in HEAD_SITES:
            return change[:, None]
        output = AttentionOutput.of(subject, layer)
        output.check(
            ours[Site.Z, layer].float(), ours[Site.ATTN_OUT, layer].float(), subject.tolerance
        )
        change = torch.einsum("phd,hde->phe", change, output.weight)
        if output.norm is None:
            return change
        before = output.before_norm(h[:, -1:])
        if self.scale == "held":
            return output.norm.linear(change, before)
        return output.norm(before) - output.norm(before - change)
