"""A LayerNorm or RMSNorm of the model, as it acts and as a linear map with frozen scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Norm:
    """norm(x) = weight * (x - mean) / scale + bias.

    The mean is removed by a LayerNorm only; scale = sqrt(mean square + eps) of what is left of x.

    Attributes:
        weight: 1 + weight where the norm says so (Gemma).
        bias: zeros where the norm has none.
        centred: the norm is a LayerNorm.
        eps: inside the square root.
    """

    weight: Float[Tensor, " width"]
    bias: Float[Tensor, " width"]
    centred: bool
    eps: float

    @staticmethod
    def of(bridged: Any) -> Norm:
        """Reads the parameters of one of the bridge's norms."""
        norm = bridged.original_component
        weight = norm.weight.detach().float() + float(bridged.uses_weight_offset)
        bias = getattr(norm, "bias", None)
        return Norm(
            weight=weight,
            bias=torch.zeros_like(weight) if bias is None else bias.detach().float(),
            centred=not bridged.uses_rms_norm,
            eps=float(getattr(norm, "eps", None) or norm.variance_epsilon),
        )

    def __call__(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """The norm's output."""
        return self._centre(x) / self.scale(x)[..., None] * self.weight + self.bias

    def scale(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, " *batch"]:
        """What the norm divides x by."""
        return self._centre(x).square().mean(dim=-1).add(self.eps).sqrt()

    def linear(
        self, y: Float[Tensor, "*batch width"], x: Float[Tensor, "*batch width"]
    ) -> Float[Tensor, "*batch width"]:
        """What y adds to the norm's output at the scale of x."""
        return self.weight * self._centre(y) / self.scale(x)[..., None]

    def adjoint(
        self,
        direction: Float[Tensor, "*batch width"],
        x: Float[Tensor, "*batch width"],
    ) -> Float[Tensor, "*batch width"]:
        """d with y . d = (what y adds to the norm's output, at the scale of x) . direction."""
        return self._centre(self.weight * direction) / self.scale(x)[..., None]

    def _centre(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=-1, keepdim=True) if self.centred else x
