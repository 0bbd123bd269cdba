"""Scales of channels: Eq. 5 with one scalar a channel of a point instead of one a point.

Source: 'ASGuard: Activation-Scaling Guard' (2025) and 'LoFiT: Localized Fine-tuning on LLM
Representations' (Yin, Ye and Durrett 2024), Section 3, both at heads.
"""

from __future__ import annotations

from torch import Tensor

from methods.core.steering_vectors import SteeringVectors


class ChannelScaling(SteeringVectors):
    """h <- h + beta (a * h), channel by channel, one a as wide as h a point.

    Parameters are held, counted and shortened as those of steering vectors; equal entries of a
    point are its activation scalar.
    """

    @staticmethod
    def changed(h: Tensor, change: Tensor) -> Tensor:
        """Eq. 5 in every channel, for `change` beta a."""
        return h * (1 + change)
