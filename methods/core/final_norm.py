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
    """

    weight: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    centred: bool
    eps: float
    unembedding: Float[Tensor, "vocab d_model"]
    unembedding_bias: Float[Tensor, " vocab"]

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

    def check(self, subject: SubjectModel, prompts: Prompts, residual: Tensor) -> None:
        """Compares the linear map with the logits before any soft cap.

        Args:
            subject: the model that the map was read from.
            prompts: prompts of one forward.
            residual: their final residual stream (prompt, position, d_model).

        Raises:
            UnknownFinalNormError: if the map does not give the model's own logit difference.
        """
        seen: list[Tensor] = []
        with (
            torch.no_grad(),
            subject.bridge.hooks(fwd_hooks=[("unembed.hook_out", lambda h, hook: seen.append(h))]),
        ):
            subject.logits(prompts.tokens)
        expected = prompts.logit_difference(seen[0][:, -1].float())
        direction = self.directions(prompts.answers, prompts.foils, residual)[:, -1]
        found = (residual[:, -1] * direction).sum(dim=-1)
        found = found + self.constant(prompts.answers, prompts.foils)
        tolerance = 1e-3 if subject.dtype in (torch.float32, torch.float64) else 0.1
        if not torch.allclose(found, expected, rtol=tolerance, atol=10 * tolerance):
            raise UnknownFinalNormError(
                "dla: the final norm and unembedding of "
                f"{subject.bridge.cfg.architecture} are not a norm and a matrix as this method "
                f"reads them (logit differences {found.tolist()} instead of {expected.tolist()}), "
                "so its scores would be wrong."
            )

    def _centre(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=-1, keepdim=True) if self.centred else x
