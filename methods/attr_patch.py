"""AttrPatch: attribution patching, the first-order estimate of activation patching."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from methods.contrasted import ContrastedMethod
from methods.core.corruption import Contrast
from methods.core.points import PointGrid
from methods.core.subject import SubjectModel


@dataclass(frozen=True)
class AttrPatch(ContrastedMethod):
    """The score of a point is (h_clean - h_corrupted) . dLD/dh, the Taylor estimate of ActivPatch.

    The gradient is taken on the run that is patched: the clean one for noising, the corrupted one
    for denoising. It comes from the same hook as that run's activation.

    Source: 'Attribution Patching: Activation Patching At Industrial Scale' (Nanda 2023).
    """

    def contrast_scores(
        self, subject: SubjectModel, grid: PointGrid, contrast: Contrast
    ) -> Float[Tensor, "prompt place layer position"]:
        """One forward of either run and one backward, whatever the number of points."""
        return taylor_scores(subject, grid, contrast)


def taylor_scores(
    subject: SubjectModel, grid: PointGrid, contrast: Contrast
) -> Float[Tensor, "prompt place layer position"]:
    """sign (h_receiver - h_donated) . dLD/dh at the receiver, for every point."""
    receiver = contrast.receiver
    taps = subject.activations_and_gradients(receiver.prompts, grid.site_layers, receiver.noise)
    scores = torch.zeros((len(receiver.prompts), *grid.shape), device=subject.device)
    for (site, layer), (h, gradient) in taps.items():
        change = h.float() - contrast.donated[site, layer].float()
        product = (change * gradient.float()).sum(dim=-1)
        scores[:, grid.rows(site), layer] = contrast.sign * grid.at_points(site, product)
    return scores
