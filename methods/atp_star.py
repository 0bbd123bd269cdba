"""AtPStar: attribution patching with the fixes for saturated attention and cancelling paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from methods.attr_patch import taylor_scores
from methods.contrasted import ContrastedMethod
from methods.core.attention import (
    key_effect,
    patched_attention,
    pattern_gradients,
    query_effect,
)
from methods.core.corruption import Contrast, contrasts
from methods.core.points import PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.core.subsets import effect_bounds
from methods.local_rules import graddrop
from methods.method import Attribution, Setting

Subsets = Annotated[int, Field(ge=0)]
SHARE = 0.05
"""Of the points that a random set holds: few enough that they hardly interact."""
CONFIDENCE = 0.95

ScoresNow = Callable[[], Float[Tensor, "prompt place layer position"]]


@dataclass(frozen=True)
class AtPStar(ContrastedMethod):
    """The score of a point is AttrPatch's with two fixes; its size is for ranking.

    At `q` and `k` (the QK fix) the softmax of the attention is computed anew with the patched query
    or key, and only what lies behind the pattern is linear: where attention is saturated, AttrPatch
    sees next to nothing there. At all sites (GradDrop) the size of the score is the mean magnitude
    over backwards that each leave a layer out, so that paths that cancel do not hide a point. The
    sign is that of the score without GradDrop, prompt by prompt.

    Source: 'AtP*: An efficient and scalable method for localizing LLM behaviour to components'
    (Kramar, Lieberum, Shah and Nanda 2024), Section 3.1, Eq. 11.

    Attributes:
        fix_attention: the QK fix.
        drop: GradDrop.
        subsets: runs for the diagnostic: random sets of points are patched together, and what is
            left of a missed point is bounded (`extra.bound`, one a point, and a note); 0 for none.
    """

    fix_attention: bool = True
    drop: bool = True
    subsets: Subsets = 0

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """The scores, and with `subsets` a bound on the effect of every point."""
        found = super().fit(subject, prompts, grid, setting)
        if not self.subsets:
            return found
        first, *_ = contrasts(subject, prompts, grid, self.corruption, self.direction, setting.seed)
        bounds = effect_bounds(
            subject,
            first,
            grid,
            n_subsets=self.subsets,
            share=SHARE,
            confidence=CONFIDENCE,
            seed=setting.seed,
        )
        ranked = found.scores.abs().cpu().masked_fill(~grid.included, -1).flatten().argsort()
        unverified = bounds.flatten()[ranked[: -max(1, grid.n_points // 10)]]
        note = (
            f"by {self.subsets} random sets of points: a point below the strongest tenth has an "
            f"effect under {float(unverified.max()):.3g} logits ({CONFIDENCE:.0%}, point by point)"
        )
        return replace(found, extras={"bound": bounds}, notes=(*found.notes, note))

    def gradient_runs(self, n_layers: int, n_sites: int) -> int:
        """Two backwards (one for patterns), of GradDrop two more a layer."""
        return 2 * (1 + n_layers) if self.drop else 2

    def contrast_scores(
        self, subject: SubjectModel, grid: PointGrid, contrast: Contrast
    ) -> Float[Tensor, "prompt place layer position"]:
        """One backward, one more for the patterns, and with GradDrop as many again a layer.

        Raises:
            UserInputError: if GradDrop leaves nothing of a model of one layer.
        """
        scores_now = self._scores_of(subject, grid, contrast)
        ordinary = scores_now()
        return graddrop(subject, grid, ordinary, scores_now) if self.drop else ordinary

    def _scores_of(self, subject: SubjectModel, grid: PointGrid, contrast: Contrast) -> ScoresNow:
        """What gives the scores by the gradients that the model has at the time."""
        fixed = {Site.Q, Site.K}.intersection(grid.sites) if self.fix_attention else set()
        if not fixed:
            return lambda: taylor_scores(subject, grid, contrast)
        scores, pattern = patched_attention(subject, contrast, None)
        patched = {site: patched_attention(subject, contrast, site) for site in fixed}

        def scores_now() -> Float[Tensor, "prompt place layer position"]:
            found = taylor_scores(subject, grid, contrast)
            gradients = pattern_gradients(subject, contrast)
            for layer, gradient in enumerate(gradients):
                for site in fixed:
                    now = pattern[layer], patched[site][1][layer], gradient
                    if site is Site.Q:
                        effect = query_effect(*now)
                    else:
                        assert grid.heads is not None
                        changed = scores[layer], patched[site][0][layer]
                        effect = key_effect(now[0], *changed, gradient, grid.heads.n_kv_heads)
                    found[:, grid.rows(site), layer] = -contrast.sign * grid.at_points(site, effect)
            return found

        return scores_now
