"""A bound on what any one point does, from runs in which random sets of points are patched."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.corruption import Contrast
from methods.core.paths import Between
from methods.core.points import PointGrid
from methods.core.subject import SubjectModel


@torch.no_grad()
def subset_effects(
    subject: SubjectModel,
    contrast: Contrast,
    grid: PointGrid,
    kept: Float[Tensor, "subset place layer position"],
) -> Float[Tensor, " subset"]:
    """sign (LD(receiver) - LD(receiver with a set of points patched)), mean over prompts.

    Args:
        subject: the model.
        contrast: what is patched.
        grid: the points.
        kept: 0 at the points of a set, 1 elsewhere.
    """
    receiver = contrast.receiver
    unpatched = receiver.logit_difference(subject)
    effects = []
    for gates in kept:
        edit = Between(grid, contrast.donated, gates[None], grid.site_layers)
        parts = []
        for rows in subject.chunks(len(receiver.prompts)):
            noise = None if receiver.noise is None else receiver.noise[rows]
            logits = subject.logits(receiver.prompts.tokens[rows], edit.of_rows(rows), noise)
            chunk = receiver.prompts.take(rows)
            parts.append(chunk.logit_difference(logits))
        effects.append(contrast.sign * (unpatched - torch.cat(parts)).mean())
    return torch.stack(effects)


def effect_bounds(
    subject: SubjectModel,
    contrast: Contrast,
    grid: PointGrid,
    *,
    n_subsets: int,
    share: float,
    confidence: float,
    seed: int,
) -> Float[Tensor, "place layer position"]:
    """Upper confidence bounds on the size of each point's effect; 0 at points left out.

    The effect of a point is taken as the mean over sets that hold it minus that over sets that do
    not: its own patch's where points do not interact. The bound is the farther end of Welch's
    interval for that difference, so that the size is under it with at least this confidence, point
    by point.

    Source: 'AtP*: An efficient and scalable method for localizing LLM behaviour to components'
    (Kramar, Lieberum, Shah and Nanda 2024), the diagnostic by subset sampling.

    Args:
        subject: the model.
        contrast: what is patched.
        grid: the points.
        n_subsets: random sets, one patched run of every prompt each.
        share: of the points in a set, on average.
        confidence: of each bound.
        seed: of the sets.
    """
    from scipy.stats import ttest_ind

    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand((n_subsets, *grid.shape), generator=generator) < share
    chosen &= grid.included
    effects = subset_effects(subject, contrast, grid, (~chosen).float()).cpu().double().numpy()
    bounds = torch.zeros(grid.shape)
    for point in grid.included.nonzero().tolist():
        holds = chosen[(slice(None), *point)].numpy()
        if min(holds.sum(), (~holds).sum()) < 2:
            bounds[tuple(point)] = torch.inf
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # sets that all do the same
            test = ttest_ind(effects[holds], effects[~holds], equal_var=False)
            low, high = test.confidence_interval(2 * confidence - 1)
        bounds[tuple(point)] = max(abs(low), abs(high))
    return bounds
