"""SADI: the points where two runs differ most, scaled by their own activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.core.training import PositiveInt
from methods.diff_means import differences
from methods.method import Attribution, Method, Setting


@dataclass(frozen=True)
class SADI(Method):
    """The score of a point is 1 where the runs differ most, else 0.

    v is the mean over prompts of h_clean - h_corrupted; the mask m is 1 at the k points of largest
    ||v||; h + beta (m h) steers, which is Eq. 5 with the scores as scalars: the direction of the
    step is the prompt's own activation. Scores say where, and have no sign. A point at which the
    runs are the same is never one of the k.

    Source: 'Semantics-Adaptive Activation Intervention for LLMs via Dynamic Steering Vectors' (Wang
    et al. 2025), which masks entries of hidden states, heads or neurons; here points are masked.

    Attributes:
        k: how many points.
        corruption: what the clean run is contrasted with.
    """

    k: PositiveInt = 16
    corruption: Literal["counterfactual", "gaussian"] = "counterfactual"

    @property
    def signed(self) -> bool:
        """No: a mask tells where, not which way."""
        return False

    @torch.no_grad()
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """A forward of the clean run and one of every corrupted run.

        Raises:
            NotEnoughMemoryError: if the differences do not fit.
        """
        change = differences(subject, prompts, grid, self.corruption, setting.seed)
        length = change.mean(dim=0).norm(dim=-1).cpu().masked_fill(~grid.included, 0)
        order = length.flatten().argsort(descending=True, stable=True)[: self.k]
        scores = torch.zeros(length.numel())
        scores[order] = 1
        return Attribution(scores.view(grid.shape) * (length > 0))
