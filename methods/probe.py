"""Probe: how well a linear classifier tells clean from corrupted activations at the point."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.corruption import contrasts
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.core.training import PositiveFloat
from methods.method import Attribution, Method, Setting
from tasks.errors import UserInputError

ROUNDING = 1e-9
"""Spread, in squared lengths, that tells nothing."""


@dataclass(frozen=True)
class Probe(Method):
    """The score of a point is how surely a probe tells clean from corrupted on unseen prompts.

    For every train prompt a ridge classifier (labels 1 for clean, -1 for corrupted, with an
    intercept) is fitted to the activations of all other prompts at the point, and judges both runs
    of the one left out. The score is the mean of label times judgement, each judgement cut off at
    -1 and 1, or 0 where that is less: an accuracy in which an unsure judgement counts less, since
    the accuracy itself (`extra.accuracy`) ties at most points when prompts are few. It says where
    the difference can be read off, and nothing of what the model does with it: a floor for causal
    methods. Scores have no sign.

    Source: 'Understanding intermediate layers using linear classifier probes' (Alain and Bengio
    2016).

    Attributes:
        penalty: of the ridge, in mean squared lengths of the centred activations.
    """

    penalty: PositiveFloat = 1.0

    @property
    def signed(self) -> bool:
        """No: it tells where, not which way."""
        return False

    @torch.no_grad()
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """A forward of either run.

        Raises:
            UserInputError: for a single prompt, which leaves nothing to fit to.
        """
        if len(prompts) < 2:
            raise UserInputError("prompts: a probe is judged on another prompt; train needs two.")
        (contrast,) = contrasts(subject, prompts, grid, "counterfactual", "noising", setting.seed)
        clean = contrast.receiver.activations(subject, grid.site_layers)
        scores = torch.zeros(grid.shape, device=subject.device)
        accuracy = torch.zeros_like(scores)
        for (site, layer), corrupted in contrast.donated.items():
            h = torch.stack([clean[site, layer], corrupted], dim=1).flatten(0, 1).double()
            products = torch.einsum("aplw,bplw->plab", *[grid.at_points(site, h)] * 2)
            agreed = held_out(products, self.penalty)
            rows = grid.rows(site)
            scores[rows, layer] = agreed.clamp(-1, 1).mean(dim=-1).clamp_min(0).float()
            accuracy[rows, layer] = ((1 + agreed.sign()) / 2).mean(dim=-1).float()
        return Attribution(scores, extras={"accuracy": accuracy})


def held_out(
    products: Float[Tensor, "*point row row"], penalty: float
) -> Float[Tensor, "*point row"]:
    """Label times judgement of each row by a ridge classifier that was not fitted to its pair.

    Args:
        products: inner products of the activations; rows are pairs of a clean and a corrupted one.
        penalty: in units of the mean diagonal of the centred products.
    """
    n = products.shape[-1]
    labels = torch.tensor([1.0, -1.0], dtype=products.dtype, device=products.device)
    found = torch.zeros(products.shape[:-1], device=products.device, dtype=products.dtype)
    for pair in range(0, n, 2):
        fitted = [row for row in range(n) if row not in (pair, pair + 1)]
        own = products[..., fitted, :][..., fitted]
        to_others = products[..., pair : pair + 2, :][..., fitted]
        mean = own.mean(dim=-1, keepdim=True)
        total = mean.mean(dim=-2, keepdim=True)
        centred = own - mean - mean.mT + total
        to_others = to_others - to_others.mean(dim=-1, keepdim=True) - mean.mT + total
        spread, length = (one.diagonal(dim1=-2, dim2=-1).mean(dim=-1) for one in (centred, own))
        # Where all activations are the same, their spread is rounding, and judgements are 0.
        size = torch.maximum(penalty * spread, ROUNDING * length).clamp_min(1e-30)[..., None, None]
        ridge = centred + size * torch.eye(len(fitted), dtype=own.dtype, device=own.device)
        weights = torch.linalg.solve(ridge, labels.repeat(len(fitted) // 2))
        found[..., pair : pair + 2] = (to_others @ weights[..., None])[..., 0] * labels
    return found
