"""The way from the last residual stream to the logits, as a linear map with frozen scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.core.norm import Norm
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError


class UnknownFinalNormError(UserInputError):
    """The model's last steps are not a norm and an unembedding as this module knows them."""


@dataclass(frozen=True, eq=False)
class FinalNorm:
    """Final norm and unembedding of a model.

    Attributes:
        norm: the norm behind the last layer.
        unembedding: one row a token of the vocabulary.
        unembedding_bias: zeros where the unembedding has none.
        soft_cap: c of c tanh(logit / c) behind the unembedding; 0 where there is none.
    """

    norm: Norm
    unembedding: Float[Tensor, "vocab d_model"]
    unembedding_bias: Float[Tensor, " vocab"]
    soft_cap: float

    @staticmethod
    def of(subject: SubjectModel) -> FinalNorm:
        """Reads the parameters of the bridge's `ln_final` and `unembed`."""
        bridge = subject.bridge
        head = bridge.unembed.original_component
        head_bias = getattr(head, "bias", None)
        rows = head.weight.detach().float()
        return FinalNorm(
            norm=Norm.of(bridge.ln_final),
            unembedding=rows,
            unembedding_bias=rows.new_zeros(len(rows))
            if head_bias is None
            else head_bias.detach().float(),
            soft_cap=max(float(bridge.cfg.output_logits_soft_cap), 0.0),
        )

    def directions(
        self,
        answers: Int[Tensor, " prompt"],
        foils: Int[Tensor, " prompt"],
        residual: Float[Tensor, "prompt position d_model"],
    ) -> Float[Tensor, "prompt position d_model"]:
        """d with x . d = what x adds to the logit difference, at the scale of `residual`."""
        difference = self.unembedding[answers] - self.unembedding[foils]
        return self.norm.adjoint(difference[:, None], residual)

    def constant(
        self, answers: Int[Tensor, " prompt"], foils: Int[Tensor, " prompt"]
    ) -> Float[Tensor, " prompt"]:
        """What the norm's bias and the unembedding's bias give to the logit difference."""
        difference = self.unembedding[answers] - self.unembedding[foils]
        biases = self.unembedding_bias[answers] - self.unembedding_bias[foils]
        return difference @ self.norm.bias + biases

    def logit_difference(
        self,
        residual: Float[Tensor, "row d_model"],
        answers: Int[Tensor, " row"],
        foils: Int[Tensor, " row"],
    ) -> Float[Tensor, " row"]:
        """The model's logit difference from its final residual stream, soft cap included."""
        ids = torch.stack([answers, foils], dim=1)
        logits = torch.einsum("rd,rtd->rt", self.norm(residual.float()), self.unembedding[ids])
        logits = logits + self.unembedding_bias[ids]
        if self.soft_cap:
            logits = self.soft_cap * torch.tanh(logits / self.soft_cap)
        return logits[:, 0] - logits[:, 1]

    @staticmethod
    def checked(
        subject: SubjectModel,
        residual: Float[Tensor, "prompt d_model"],
        prompts: Prompts,
        logits: Float[Tensor, "prompt vocab"],
    ) -> FinalNorm:
        """The final norm of a model, which gives the logits of a forward from its residual stream.

        Args:
            subject: the model.
            residual: the last layer's residual stream at the answer position.
            prompts: the prompts that were run.
            logits: what the same forward gave.

        Raises:
            UnknownFinalNormError: if there is no such norm, or it gives other logits.
        """
        norm = FinalNorm.of(subject)
        architecture = str(subject.bridge.cfg.architecture)
        norm.check(architecture, residual, prompts, logits, subject.tolerance)
        return norm

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
                f"The final norm and unembedding of {architecture} are not a norm and a "
                f"matrix as this method reads them (logit differences {found.tolist()} instead of "
                f"{expected.tolist()}), so its scores would be wrong."
            )
