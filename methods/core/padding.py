"""A forward of rows of several lengths: what the model is told, and where the answer is read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Padded:
    """Rows with padding, left or right of their tokens.

    Attributes:
        mask: False at padding.
        last: index of each row's last token, the answer position.
        n_kept: how many of the last positions hold the answer positions of all rows.
    """

    mask: Bool[Tensor, "row position"]
    last: Int[Tensor, " row"]
    n_kept: int

    @staticmethod
    def of(mask: Bool[Tensor, "row position"]) -> Padded:
        """Reads off the mask where rows end."""
        n_positions = mask.shape[1]
        last = n_positions - 1 - mask.flip(1).int().argmax(dim=1)
        return Padded(mask, last, n_positions - int(last.min()))

    @property
    def arguments(self) -> dict[str, Tensor]:
        """What a Hugging Face model needs: a token counts its position from its row's first."""
        positions = self.mask.long().cumsum(dim=1) - 1
        return {"attention_mask": self.mask.long(), "position_ids": positions.clamp_min(0)}

    def at_answer(self, output: Float[Tensor, "row kept vocab"]) -> Float[Tensor, "row vocab"]:
        """The logits at each row's answer position, of those at the last `n_kept` positions."""
        rows = torch.arange(len(self.last), device=output.device)
        return output[rows, self.last - (self.mask.shape[1] - self.n_kept)]
