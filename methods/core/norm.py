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
        weight: 1 + weight where the norm says so (Gemma); ones where it has none (OLMo).
        bias: zeros where the norm has none.
        centred: the norm is a LayerNorm.
        eps: inside the square root.
    """

    weight: Float[Tensor, " width"]
    bias: Float[Tensor, " width"]
    centred: bool
    eps: float

    @staticmethod
    def of(bridged: Any, width: int | None = None) -> Norm:
        """Reads the parameters of one of the bridge's norms.

        Args:
            bridged: the norm.
            width: of what it is given; needed of one without weight that is not of the stream.
        """
        norm = bridged.original_component
        stored, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
        if stored is None:
            width = int(bridged.config.d_model) if width is None else width
            weight = torch.ones(width, device=bridged.config.device)
        else:
            weight = stored.detach().float() + float(getattr(bridged, "uses_weight_offset", False))
        return Norm(
            weight=weight,
            bias=torch.zeros_like(weight) if bias is None else bias.detach().float(),
            centred=not getattr(bridged, "uses_rms_norm", "RMS" in type(norm).__name__),
            eps=_eps_of(norm, len(weight)),
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
        return self.unscaled(y) / self.scale(x)[..., None]

    def unscaled(self, y: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """The same before it is divided by the scale."""
        return self.weight * self._centre(y)

    def adjoint(
        self,
        direction: Float[Tensor, "*batch width"],
        x: Float[Tensor, "*batch width"],
    ) -> Float[Tensor, "*batch width"]:
        """d with y . d = (what y adds to the norm's output, at the scale of x) . direction."""
        return self._centre(self.weight * direction) / self.scale(x)[..., None]

    def _centre(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=-1, keepdim=True) if self.centred else x


@torch.no_grad()
def _eps_of(norm: Any, width: int) -> float:
    """The eps that a norm states, or that shows in what it makes of a small input (OLMo)."""
    stated = getattr(norm, "eps", None) or getattr(norm, "variance_epsilon", None)
    if stated is not None:
        return float(stated)
    size = 1e-3
    x = torch.full((width,), size)
    x[::2] = -size
    scale = x.norm() / norm(x).float().norm()
    return float(f"{float(scale.square()) - size**2:.2g}")
