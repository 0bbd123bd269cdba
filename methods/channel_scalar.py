"""ChannelScalar: scales of single channels trained on Psi (Eq. 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from methods.core.channel_scaling import ChannelScaling
from methods.core.points import ALL_SITES, PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution, Setting
from methods.trained import SparseMethod


@dataclass(frozen=True)
class ChannelScalar(SparseMethod):
    """The score of a point is ||a|| of its trained scales, one a channel: h <- h + beta (a * h).

    As many parameters as SteerVec has, and as ActivScalar's they act on what is there alone: the
    question of the paper, scalars against vectors, with the number of parameters left out of it.
    The mean of a point's scales is stored (`extra.mean_scale`): what they do in common.

    Source: 'LoFiT: Localized Fine-tuning on LLM Representations' (Yin, Ye and Durrett 2024), which
    ranks heads by the norm of such scales; 'ASGuard: Activation-Scaling Guard' (2025), which scales
    the channels of chosen heads. There trained on other losses, here on Eq. 9.
    """

    sites: ClassVar[frozenset[Site]] = ALL_SITES - {Site.O}
    """At `o` the channels of all heads enter one sum; those at `z` can be told apart."""

    @property
    def signed(self) -> bool:
        """No: channels of one point may be scaled up and down."""
        return False

    @torch.inference_mode(False)  # parameters made within inference_mode could not be trained
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Trains one scale a channel of every point.

        Raises:
            NotEnoughMemoryError: if the scales and what Adam keeps of them do not fit.
        """
        start = self.initial_channels(subject, grid, setting, "scales")
        scaling = ChannelScaling(grid, start).to(subject.device)
        trace = self.train(subject, scaling, prompts, setting)
        scales = scaling.vectors.detach()
        own = torch.tensor(grid.widths(scales.shape[-1]), device=scales.device)[:, None, None]
        return Attribution(
            scales.norm(dim=-1),
            intervention=scaling,
            extras={"mean_scale": scales.sum(dim=-1) / own},
            steps=trace.steps,
            reach=trace.steps * self.learning_rate,
        )
