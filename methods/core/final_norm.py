"""The way from the last residual stream to the logits, as a linear map with frozen scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError


class UnknownFinalNormError(UserInputError):
    """The model's last steps are not a norm and an unembedding as this module knows them."""


@dataclass(frozen=True, eq=False)
class FinalNorm:
    """Final norm and unembedding of a model.

    norm(x) = weight * (x - mean) / scale + bias, where the mean is removed by a LayerNorm only,
    and scale = sqrt(mean square + eps) of what is left of x.

    Attributes:
        weight: 1 + weight where the norm says so (Gemma).
        bias: zeros where the norm has none.
        centred: the norm is a LayerNorm.
        eps: inside the square root.
        unembedding: one row a token of the vocabulary.
        unembedding_bias: zeros where the unembedding has none.
        soft_cap: c of c tanh(logit / c) behind the unembedding; 0 where there is none.
    """

    weight: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    centred: bool
    eps: float
    unembedding: Float[Tensor, "vocab d_model"]
    unembedding_bias: Float[Tensor, " vocab"]
    soft_cap: float

    @staticmethod
    def of(subject: SubjectModel) -> FinalNorm:
        """Reads the parameters of the bridge's `ln_final` and `unembed`."""
        bridge = subject.bridge
        norm = bridge.ln_final.original_component
        head = bridge.unembed.original_component
        weight = norm.weight.detach().float() + float(bridge.ln_final.uses_weight_offset)
        bias = getattr(norm, "bias", None)
        head_bias = getattr(head, "bias", None)
        rows = head.weight.detach().float()
        return FinalNorm(
            weight=weight,
            bias=torch.zeros_like(weight) if bias is None else bias.detach().float(),
            centred=not bridge.ln_final.uses_rms_norm,
            eps=float(getattr(norm, "eps", None) or norm.variance_epsilon),
            unembedding=rows,
            unembedding_bias=rows.new_zeros(len(rows))
            if head_bias is None
            else head_bias.detach().float(),
            soft_cap=max(float(bridge.cfg.output_logits_soft_cap), 0.0),
        )

    def scale(self, residual: Float[Tensor, "*batch d_model"]) -> Float[Tensor, " *batch"]:
        """What the norm divides a residual stream by."""
        return self._centre(residual).square().mean(dim=-1).add(self.eps).sqrt()

    def directions(
        self,
        answers: Int[Tensor, " prompt"],
        foils: Int[Tensor, " prompt"],
        residual: Float[Tensor, "prompt position d_model"],
    ) -> Float[Tensor, "prompt position d_model"]:
        """d with x . d = what x adds to the logit difference, at the scale of `residual`."""
        difference = self.unembedding[answers] - self.unembedding[foils]
        direction = self._centre(self.weight * difference)
        return direction[:, None] / self.scale(residual)[..., None]

    def constant(
        self, answers: Int[Tensor, " prompt"], foils: Int[Tensor, " prompt"]
    ) -> Float[Tensor, " prompt"]:
        """What the norm's bias and the unembedding's bias give to the logit difference."""
        difference = self.unembedding[answers] - self.unembedding[foils]
        biases = self.unembedding_bias[answers] - self.unembedding_bias[foils]
        return difference @ self.bias + biases

    def logit_difference(
        self,
        residual: Float[Tensor, "row d_model"],
        answers: Int[Tensor, " row"],
        foils: Int[Tensor, " row"],
    ) -> Float[Tensor, " row"]:
        """The model's logit difference from its final residual stream, soft cap included."""
        residual = residual.float()
        normed = self._centre(residual) / self.scale(residual)[:, None] * self.weight + self.bias
        ids = torch.stack([answers, foils], dim=1)
        logits = torch.einsum("rd,rtd->rt", normed, self.unembedding[ids])
        logits = logits + self.unembedding_bias[ids]
        if self.soft_cap:
            logits = self.soft_cap * torch.tanh(logits / self.soft_cap)
        return logits[:, 0] - logits[:, 1]

    def check(
        self,
        architecture: str,
        residual: Float[Tensor, "prompt d_model"],
        prompts: Prompts,
        logits: Float[Tensor, "prompt vocab"],
        tolerance: float,
    ) -> None:
        """Compares what this module makes of a final residual stream with the model's own logits.

        Args:
            architecture: for the message.
            residual: the last layer's residual stream at the answer position.
            prompts: the prompts that were run.
            logits: what the same forward gave.
            tolerance: relative, and ten times as much absolute.

        Raises:
            UnknownFinalNormError: if the two do not agree.
        """
        expected = prompts.logit_difference(logits)
        found = self.logit_difference(residual, prompts.answers, prompts.foils)
        if not torch.allclose(found, expected, rtol=tolerance, atol=10 * tolerance):
            raise UnknownFinalNormError(
                f"dla: the final norm and unembedding of {architecture} are not a norm and a "
                f"matrix as this method reads them (logit differences {found.tolist()} instead of "
                f"{expected.tolist()}), so its scores would be wrong."
            )

    def _centre(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=-1, keepdim=True) if self.centred else x
