"""The way from a layer's heads to the residual stream, as a linear map with frozen scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.norm import Norm
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError


class UnknownAttentionOutputError(UserInputError):
    """The heads of a layer do not add up to what its attention adds to the residual stream."""


@dataclass(frozen=True, eq=False)
class AttentionOutput:
    """attn_out = norm(sum over heads of z W_O + b_O), where only some models have the norm.

    Attributes:
        layer: the layer.
        weight: W_O.
        bias: b_O, which belongs to no head; zeros where there is none.
        norm: the norm behind the attention (Gemma 2 and 3), if any.
    """

    layer: int
    weight: Float[Tensor, "head d_head d_model"]
    bias: Float[Tensor, " d_model"]
    norm: Norm | None

    @staticmethod
    def of(subject: SubjectModel, layer: int) -> AttentionOutput:
        """Reads the parameters of the bridge's block."""
        block = subject.bridge.blocks[layer]
        weight = block.attn.W_O.detach().float()
        bias = getattr(block.attn, "b_O", None)
        norm = getattr(block, "ln1_post", None)
        return AttentionOutput(
            layer,
            weight,
            weight.new_zeros(weight.shape[-1]) if bias is None else bias.detach().float(),
            None if norm is None else Norm.of(norm),
        )

    def before_norm(
        self, z: Float[Tensor, "prompt position head d_head"]
    ) -> Float[Tensor, "prompt position d_model"]:
        """What all heads and the bias add up to."""
        total: Tensor = torch.einsum("nphd,hde->npe", z, self.weight) + self.bias
        return total

    def head_directions(
        self,
        directions: Float[Tensor, "prompt position d_model"],
        z: Float[Tensor, "prompt position head d_head"],
    ) -> Float[Tensor, "prompt position head d_head"]:
        """d with z_head . d = what the head's own contribution gives along `directions`."""
        if self.norm is not None:
            directions = self.norm.adjoint(directions, self.before_norm(z))
        return torch.einsum("npe,hde->nphd", directions, self.weight)

    def check(
        self,
        z: Float[Tensor, "prompt position head d_head"],
        attn_out: Float[Tensor, "prompt position d_model"],
        tolerance: float,
    ) -> None:
        """Compares what this module makes of z with what the attention added to the stream.

        Args:
            z: weighted values of a forward.
            attn_out: the same forward's attn_out.
            tolerance: relative to the largest entry.

        Raises:
            UnknownAttentionOutputError: if the two do not agree.
        """
        self.check_total(self.before_norm(z), attn_out, tolerance)

    def check_total(
        self,
        total: Float[Tensor, "*batch d_model"],
        attn_out: Float[Tensor, "*batch d_model"],
        tolerance: float,
    ) -> None:
        """The same for what all heads and the bias were found to add up to, before any norm.

        Raises:
            UnknownAttentionOutputError: if the two do not agree.
        """
        found = total if self.norm is None else self.norm(total)
        error = float((found - attn_out).abs().max() / attn_out.abs().max().clamp_min(1e-30))
        if not error <= tolerance:
            raise UnknownAttentionOutputError(
                f"The heads of layer {self.layer} do not add up to its attn_out through W_O "
                f"(off by {error:.2g} of its largest entry), so their scores would be wrong. "
                "The site attn_out works."
            )


def heads_outputs(subject: SubjectModel) -> Float[Tensor, "layer head d_head d_model"]:
    """W_O of every head: o = z W_O, to which the output bias does not belong."""
    return torch.stack([AttentionOutput.of(subject, at).weight for at in range(subject.n_layers)])
