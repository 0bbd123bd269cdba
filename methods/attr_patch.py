"""AttrPatch: attribution patching, the first-order estimate of activation patching."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.corruption import (
    Contrast,
    Corruption,
    Direction,
    check_direction,
    contrasts,
)
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting


@dataclass(frozen=True)
class AttrPatch(Method):
    """The score of a point is (h_clean - h_corrupted) . dLD/dh, the Taylor estimate of ActivPatch.

    The gradient is taken on the run that is patched: the clean one for noising, the corrupted one
    for denoising. It comes from the same hook as that run's activation.

    Source: 'Attribution Patching: Activation Patching At Industrial Scale' (Nanda 2023).

    Attributes:
        corruption: what the clean run is contrasted with.
        direction: which of the two runs the gradient is taken on.
    """

    corruption: Corruption = "counterfactual"
    direction: Direction = "noising"

    def __post_init__(self) -> None:
        check_direction(self.corruption, self.direction)

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """One forward and one backward a contrast, whatever the number of points."""
        found = contrasts(subject, prompts, grid, self.corruption, self.direction, setting.seed)
        scores = torch.stack([taylor_scores(subject, grid, contrast) for contrast in found])
        per_prompt = scores.mean(dim=0)
        return Attribution(per_prompt.mean(dim=0), prompt_scores=per_prompt)


def taylor_scores(
    subject: SubjectModel, grid: PointGrid, contrast: Contrast
) -> Float[Tensor, "prompt site layer position"]:
    """sign (h_receiver - h_donated) . dLD/dh at the receiver, for every point."""
    receiver = contrast.receiver
    taps = subject.activations_and_gradients(receiver.prompts, grid.site_layers, receiver.noise)
    positions = list(grid.positions)
    scores = torch.zeros((len(receiver.prompts), *grid.shape), device=subject.device)
    for (site, layer), (h, gradient) in taps.items():
        change = h.float() - contrast.donated[site, layer].float()
        product = (change * gradient.float()).sum(dim=-1)
        scores[:, grid.sites.index(site), layer] = contrast.sign * product[:, positions]
    return scores
