"""The way from the last residual stream to the logits, as a linear map with frozen scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.core.norm import Norm
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError

N_CHECKED = 4
"""Prompts whose logits are compared."""
SAME_SCALE = 2e-3
"""A scale so near 1 is 1: in bf16 it would be measured no better."""


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
        logit_scale: logits are the unembedding's output, bias included, times this, before any soft
            cap (Cohere, Granite).
    """

    norm: Norm
    unembedding: Float[Tensor, "vocab d_model"]
    unembedding_bias: Float[Tensor, " vocab"]
    soft_cap: float
    logit_scale: float = 1.0

    @staticmethod
    def of(subject: SubjectModel) -> FinalNorm:
        """Reads the parameters of the bridge's `ln_final` and `unembed`; any scale is left at 1.

        Raises:
            UnknownFinalNormError: if the model has no such norm.
        """
        bridge = subject.bridge
        for name in ("ln_final", "unembed"):
            if not hasattr(bridge, name):
                raise UnknownFinalNormError(
                    f"{bridge.cfg.architecture} has no {name}: it does not end in a norm and an "
                    "unembedding as this method reads them."
                )
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
        return self.norm.adjoint(self.logit_scale * difference[:, None], residual)

    def logit_difference(
        self,
        residual: Float[Tensor, "row *position d_model"],
        answers: Int[Tensor, " row"],
        foils: Int[Tensor, " row"],
    ) -> Float[Tensor, " row *position"]:
        """The model's logit difference from its final residual stream, soft cap included."""
        ids = torch.stack([answers, foils], dim=1)
        normed = self.norm(residual.float()).reshape(len(residual), -1, residual.shape[-1])
        logits = torch.einsum("rpd,rtd->rpt", normed, self.unembedding[ids])
        logits = self.logit_scale * (logits + self.unembedding_bias[ids][:, None])
        logits = self._capped(logits).view(*residual.shape[:-1], 2)
        return logits[..., 0] - logits[..., 1]

    @staticmethod
    def checked(
        subject: SubjectModel,
        residual: Float[Tensor, "prompt d_model"],
        logits: Float[Tensor, "prompt vocab"],
    ) -> FinalNorm:
        """The final norm of a model, which gives the logits of a forward from its residual stream.

        Args:
            subject: the model.
            residual: the last layer's residual stream at the answer position.
            logits: what the same forward gave there.

        Raises:
            UnknownFinalNormError: if there is no such norm, or it gives other logits.
        """
        norm = FinalNorm.of(subject)
        architecture = str(subject.bridge.cfg.architecture)
        return norm.fitted(architecture, residual, logits, subject.tolerance)

    def fitted(
        self,
        architecture: str,
        residual: Float[Tensor, "prompt d_model"],
        logits: Float[Tensor, "prompt vocab"],
        tolerance: float,
    ) -> FinalNorm:
        """The same with the scale behind the unembedding that the model's own logits show.

        Every architecture keeps that scale under a name of its own, so it is measured: the one
        that fits best over the vocabulary, and 1 where that is as good. What is left is compared
        with the size of the logits themselves, so no scale that is wrong goes unseen.

        Args:
            architecture: for the message.
            residual: the last layer's residual stream at the answer position.
            logits: what the same forward gave there.
            tolerance: relative to the spread of the logits, for each prompt.

        Raises:
            UnknownFinalNormError: if the two do not agree.
        """
        few = slice(0, N_CHECKED)
        expected = logits[few].double()
        found = self.norm(residual[few].float()) @ self.unembedding.T + self.unembedding_bias
        found = found.double()
        scale = self._best_scale(found, expected)
        again = self._capped(scale * found)
        spread = (expected - expected.mean(dim=-1, keepdim=True)).norm(dim=-1)
        error = ((again - expected).norm(dim=-1) / spread.clamp_min(1e-30)).max()
        if not (scale > 0 and bool(error <= tolerance)):
            raise UnknownFinalNormError(
                f"The final norm and unembedding of {architecture} are not a norm and a matrix as "
                f"this method reads them (logits are off by {float(error):.2g} of their spread), "
                "so its scores would be wrong."
            )
        return replace(self, logit_scale=scale)

    def _best_scale(self, found: Tensor, expected: Tensor) -> float:
        """Least squares before the soft cap, of logits that are not so near the cap that rounding
        decides what they were."""
        if self.soft_cap:
            inside = expected.abs() < 0.9 * self.soft_cap
            found, expected = found[inside], expected[inside]
            expected = self.soft_cap * torch.atanh(expected / self.soft_cap)
        scale = float((found * expected).sum() / found.square().sum().clamp_min(1e-30))
        return 1.0 if abs(scale - 1) < SAME_SCALE else scale

    def _capped(self, logits: Tensor) -> Tensor:
        return self.soft_cap * torch.tanh(logits / self.soft_cap) if self.soft_cap else logits
