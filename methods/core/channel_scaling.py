"""Scales of channels: Eq. 5 with one scalar a channel of a point instead of one a point.

Source: 'ASGuard: Activation-Scaling Guard' (2025) and 'LoFiT: Localized Fine-tuning on LLM
Representations' (Yin, Ye and Durrett 2024), Section 3, both at heads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.core.intervention import EditFunction
from methods.core.points import Site
from methods.core.steering_vectors import SteeringVectors


class ChannelScaling(SteeringVectors):
    """h <- h + beta (a * h), channel by channel, one a as wide as h a point.

    Parameters are held, counted and shortened as those of steering vectors; equal entries of a
    point are its activation scalar.
    """

    def bind(self, beta: Tensor, start: int) -> EditFunction:
        """Eq. 5 in every channel."""
        scales = self.by_layer(start)

        def scale(site: Site, layer: int, h: Tensor) -> Tensor:
            own = scales[layer][:, self.grid.rows(site), : h.shape[-1]].reshape(h.shape[1:])
            wide = torch.promote_types(h.dtype, torch.float32)
            strength = beta.view(-1, *[1] * own.dim())
            return (h.to(wide) * (1 + strength * own)).to(h.dtype)

        return scale
