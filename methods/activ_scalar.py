"""ActivScalar: activation scalars trained on Psi (Eq. 5 and 9)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.method import Attribution, Setting
from methods.trained import SparseMethod


@dataclass(frozen=True)
class ActivScalar(SparseMethod):
    """The score of a point is its trained scalar alpha.

    Source: 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr et al.,
    Findings of EMNLP 2024), Eq. 5 and 9.
    """

    @torch.inference_mode(False)  # parameters made within inference_mode could not be trained
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Trains one scalar a point."""
        scaling = StaticScaling(grid, self.initial(grid.shape, setting)).to(subject.device)
        trace = self.train(subject, scaling, prompts, setting)
        return Attribution(
            scaling.alpha.detach(),
            intervention=scaling,
            steps=trace.steps,
            reach=trace.steps * self.learning_rate,
        )
