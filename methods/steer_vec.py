"""SteerVec: steering vectors trained on Psi (Eq. 4 and 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.points import ALL_SITES, PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.steering_vectors import SteeringVectors
from methods.core.subject import SubjectModel
from methods.core.training import PositiveFloat
from methods.method import Attribution, Setting
from methods.trained import SparseMethod


@dataclass(frozen=True)
class SteerVec(SparseMethod):
    """The score of a point tells how much its trained vector v matters.

    Source: 'Activation Scaling for Steering and Interpreting Language Models' (Stoehr et al.,
    Findings of EMNLP 2024), Eq. 4 and 9, Fig. 4.

    Attributes:
        score: `norm_change` is ||v|| after training minus before (the paper's); `added_norm` is
            the mean over prompts of ||h + v|| - ||h|| at the unsteered h. Both are stored.
    """

    sites: ClassVar[frozenset[Site]] = ALL_SITES - {Site.O}
    """At `o` the vectors of all heads enter one sum and get identical gradients."""

    learning_rate: PositiveFloat = 1e-3
    score: Literal["norm_change", "added_norm"] = "norm_change"

    @property
    def signed(self) -> bool:
        """No: a norm, or a change of one, tells how much a vector matters."""
        return False

    @torch.inference_mode(False)  # parameters made within inference_mode could not be trained
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Trains one vector a point.

        Raises:
            NotEnoughMemoryError: if the vectors and what Adam keeps of them do not fit.
        """
        start = self.initial_channels(subject, grid, setting, "steering vectors")
        steering = SteeringVectors(grid, start).to(subject.device)
        before = steering.vectors.detach().clone()
        trace = self.train(subject, steering, prompts, setting)

        vectors = steering.vectors.detach()
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
    vectors: Float[Tensor, "place layer position width"],
) -> Float[Tensor, "prompt place layer position"]:
    """||h + v|| - ||h|| at the unsteered activations h of every prompt."""
    scores = vectors.new_zeros((len(prompts), *grid.shape))
    activations = subject.activations(prompts.tokens, grid.site_layers)
    for (site, layer), everywhere in activations.items():
        rows = grid.rows(site)
        h = grid.at_points(site, everywhere.float())
        steered = h + vectors[rows, layer, :, : h.shape[-1]]
        scores[:, rows, layer] = steered.norm(dim=-1) - h.norm(dim=-1)
    return scores
