"""SteerVec: steering vectors trained on Psi (Eq. 4 and 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.intervention import SteeringVectors
from methods.core.memory import require_memory
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.core.training import PositiveFloat
from methods.method import Attribution, Setting
from methods.trained import TrainedMethod

COPIES_WHILE_TRAINING = 6
"""Vectors before training, vectors, gradient, Adam's two moments, and room for one more."""


@dataclass(frozen=True)
class SteerVec(TrainedMethod):
    """The score of a point tells how much its trained vector v matters.

    Source: 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr et al.,
    Findings of EMNLP 2024), Eq. 4 and 9, Fig. 4.

    Attributes:
        score: `norm_change` is ||v|| after training minus before (the paper's); `added_norm` is
            the mean over prompts of ||h + v|| - ||h|| at the unsteered h. Both are stored.
    """

    learning_rate: PositiveFloat = 1e-3
    score: Literal["norm_change", "added_norm"] = "norm_change"

    @torch.inference_mode(False)  # parameters made within inference_mode could not be trained
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Trains one vector a point.

        Raises:
            NotEnoughMemoryError: if the vectors and what Adam keeps of them do not fit.
        """
        shape = (*grid.shape, subject.d_model)
        require_memory(
            COPIES_WHILE_TRAINING * 4 * grid.n_points * subject.d_model,
            subject.device,
            f"steering vectors of {grid.n_points} points and width {subject.d_model} in training",
            "fewer sites, layers or positions",
        )
        start = self.initial(shape, setting)
        steering = SteeringVectors(grid, start).to(subject.device)
        trace = self.train(subject, steering, prompts, setting)

        vectors = steering.vectors.detach()
        before = start.to(vectors.device)
        added = added_norm(subject, prompts, grid, vectors)
        scores = {
            "norm_change": vectors.norm(dim=-1) - before.norm(dim=-1),
            "added_norm": added.mean(dim=0),
        }
        cosine = torch.cosine_similarity(vectors, before, dim=-1)
        return Attribution(
            scores[self.score],
            prompt_scores=added if self.score == "added_norm" else None,
            intervention=steering,
            extras={**scores, "cosine_distance": 1 - cosine},
            steps=trace.steps,
            reach=trace.steps * self.learning_rate,
        )


def added_norm(
    subject: SubjectModel,
    prompts: Prompts,
    grid: PointGrid,
    vectors: Float[Tensor, "site layer position d_model"],
) -> Float[Tensor, "prompt site layer position"]:
    """||h + v|| - ||h|| at the unsteered activations h of every prompt."""
    scores = vectors.new_zeros((len(prompts), *grid.shape))
    activations = subject.activations(prompts.tokens, grid.site_layers)
    for (site, layer), everywhere in activations.items():
        index = grid.sites.index(site)
        h = everywhere[:, list(grid.positions)].float()
        scores[:, index, layer] = (h + vectors[index, layer]).norm(dim=-1) - h.norm(dim=-1)
    return scores
