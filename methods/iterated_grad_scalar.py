"""IteratedGradScalar: the slope of the objective in the scalars, followed for a few steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.core.training import PositiveFloat, PositiveInt, TrainingDivergedError, gradients_of
from methods.method import Attribution, Method, Setting


@dataclass(frozen=True)
class IteratedGradScalar(Method):
    """The score of a point is its scalar after n steps along the slope of E_m + lambda_F F.

    In each step the objective (Eq. 9 without M_1) is linearised where the scalars are, and all of
    them move along its gradient, by so much that the one with the largest slope moves by `reach` /
    n. The first slope is GradScalar's, with a prompt counted twice where |LD| < m (both of E_m's
    hinges are active) and once elsewhere; with one step the scores are that, up to scale. With many
    they go the way of ActivScalar, whose Adam moves every scalar about equally far instead. What
    steers are the scores, with beta tuned as of other untrained methods.

    Source: Eq. 5, 6, 7 and 9 of 'Activation Scaling for Steering and Interpreting Language Models'
    (Stoehr et al., Findings of EMNLP 2024), by steepest ascent.

    Attributes:
        steps: n.
        reach: how far a scalar can get; ActivScalar's steps times learning rate by default.
    """

    steps: PositiveInt = 5
    reach: PositiveFloat = 0.25

    def gradient_runs(self, n_layers: int, n_sites: int) -> int:
        """Both signs in every step."""
        return 2 * self.steps

    @torch.inference_mode(False)  # parameters made within inference_mode have no gradient
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Two forwards and two backwards a step.

        Raises:
            TrainingDivergedError: if a slope is no number.
        """
        scaling = StaticScaling(grid, torch.zeros(grid.shape)).to(subject.device)
        everyone = torch.arange(len(prompts), device=subject.device)
        with torch.enable_grad():
            gradients = gradients_of(subject, scaling, prompts, setting.objective, "proximal")
            for step in range(self.steps):
                scaling.alpha.grad = None
                gradients(everyone)
                slope = -scaling.alpha.grad  # type: ignore[operator] # just computed
                steepest = slope.abs().max()
                if not bool(torch.isfinite(steepest)):
                    raise TrainingDivergedError(f"The slope of step {step + 1} is {steepest}.")
                if steepest == 0:
                    break
                with torch.no_grad():
                    scaling.alpha.add_(slope, alpha=float(self.reach / self.steps / steepest))
        return Attribution(scaling.alpha.detach())
