"""DiffMeans: the mean difference between clean and corrupted activations, added as a vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.corruption import Corruption, contrasts
from methods.core.memory import require_memory
from methods.core.points import ALL_SITES, PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.steering_vectors import SteeringVectors
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting


@dataclass(frozen=True)
class DiffMeans(Method):
    """The score of a point is ||v||, v = the mean over prompts of h_clean - h_corrupted.

    What steers is h + beta v (Eq. 4) with these v, untrained: the immediate rival of SteerVec. beta
    is tuned as that of scores is. A prompt's score is the length of its own difference along v,
    whose mean over prompts is ||v||. Scores say how far the runs are apart, and have no sign.

    Source: 'Steering Llama 2 via Contrastive Activation Addition' (Rimsky et al. 2024), which adds
    such a vector at one layer; here all points of the grid have one.

    Attributes:
        corruption: what the clean run is contrasted with.
    """

    own_intervention: ClassVar[bool] = True
    sites: ClassVar[frozenset[Site]] = ALL_SITES - {Site.O}
    """At `o` the vectors of all heads enter one sum; those at `z` say the same."""

    corruption: Literal["counterfactual", "gaussian"] = "counterfactual"

    @property
    def signed(self) -> bool:
        """No: the size of a difference tells where, not which way."""
        return False

    @torch.inference_mode(False)  # the vectors are parameters like those of trained methods
    @torch.no_grad()
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """A forward of the clean run and one of every corrupted run.

        Raises:
            NotEnoughMemoryError: if the vectors do not fit.
        """
        change = differences(subject, prompts, grid, self.corruption, setting.seed)
        vectors = change.mean(dim=0)
        length = vectors.norm(dim=-1, keepdim=True)
        direction = vectors / length.clamp_min(torch.finfo(torch.float32).tiny)
        per_prompt = (change * direction).sum(dim=-1)
        return Attribution(
            per_prompt.mean(dim=0),
            prompt_scores=per_prompt,
            intervention=SteeringVectors(grid, vectors),
        )


def differences(
    subject: SubjectModel, prompts: Prompts, grid: PointGrid, corruption: Corruption, seed: int
) -> Float[Tensor, "prompt place layer position width"]:
    """h_clean - h_corrupted of every point, 0 beyond a place's own width; mean over draws of noise.

    Raises:
        NotEnoughMemoryError: if they do not fit.
    """
    shape = (*grid.shape, max(grid.widths(subject.d_model)))
    require_memory(
        4 * (len(prompts) + 2) * grid.n_points * shape[-1],
        subject.device,
        f"differences of {grid.n_points} points and width {shape[-1]}",
        "fewer sites, layers or positions",
    )
    change = torch.zeros((len(prompts), *shape), device=subject.device)
    found = contrasts(subject, prompts, grid, corruption, "noising", seed)
    for contrast in found:
        clean = contrast.receiver.activations(subject, grid.site_layers)
        for (site, layer), h in clean.items():
            difference = h.float() - contrast.donated[site, layer].float()
            rows, width = grid.rows(site), h.shape[-1]
            change[:, rows, layer, :, :width] += grid.at_points(site, difference) / len(found)
    return change
