"""DynScalar: dynamic activation scalars trained on Psi (Eq. 10 and 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.dynamic_scaling import DynamicScaling
from methods.core.intervention import behind
from methods.core.points import PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution, Setting
from methods.trained import TrainedMethod


@dataclass(frozen=True)
class DynScalar(TrainedMethod):
    """The score of a point is the mean over prompts of its scalar alpha(h) at beta = 0.

    Source: 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr et al.,
    Findings of EMNLP 2024), Eq. 10 and 9.
    """

    any_length: ClassVar[bool] = True

    @torch.inference_mode(False)  # parameters made within inference_mode could not be trained
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Trains one gate a (place, layer)."""
        shape = (len(grid.places), grid.n_layers, max(grid.widths(subject.d_model)))
        output = subject.head_output if Site.O in grid.sites else None
        scaling = DynamicScaling(grid, self.initial(shape, setting), output).to(subject.device)
        trace = self.train(subject, scaling, prompts, setting)
        per_prompt = unsteered_scalars(subject, prompts, scaling)
        return Attribution(
            per_prompt.mean(dim=0),
            prompt_scores=per_prompt,
            intervention=scaling,
            steps=trace.steps,
            reach=trace.steps * self.learning_rate,
        )


@torch.no_grad()
def unsteered_scalars(
    subject: SubjectModel, prompts: Prompts, scaling: DynamicScaling
) -> Float[Tensor, "prompt place layer position"]:
    """alpha(h) of every prompt at the activations of the unsteered run, 0 at padding and BOS."""
    grid = scaling.grid
    scores = scaling.gates.new_zeros((len(prompts), *grid.shape))
    seen = subject.activations(prompts.tokens, grid.site_layers, mask=prompts.mask)
    for (site, layer), h in seen.items():
        scores[:, grid.rows(site), layer] = scaling.alpha(site, layer, h)
    if prompts.first is not None:
        acts = behind(prompts.first, prompts.n_positions)[:, list(grid.positions)]
        scores = scores * acts[:, None, None]
    return scores
