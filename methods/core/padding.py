"""A forward of rows of several lengths: what the model is told, and where the answer is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tasks.errors import UserInputError

if TYPE_CHECKING:
    from methods.core.subject import SubjectModel

SEEN = 0.02
"""Difference that padding makes, in standard deviations of the logits, where it is not left out."""
SEEN_IN_HALF = 0.25


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


@torch.no_grad()
def check_padding(
    subject: SubjectModel, tokens: Int[Tensor, "row position"], mask: Bool[Tensor, "row position"]
) -> None:
    """Looks, until it has once, whether rows give the logits with padding that they give alone.

    Raises:
        UserInputError: where they do not: states that go on through padding (RWKV), or attention
            that with a mask is another one.
    """
    if subject.heeds_padding or bool(mask.all()):
        return
    lengths = mask.sum(dim=1)
    rows = torch.stack([lengths.argmin(), lengths.argmax()])
    counted = subject.passes.forward
    subject.heeds_padding = True  # as the forwards that follow are to take for granted
    together = subject.logits(tokens[rows], mask=mask[rows])
    alone = torch.cat([subject.logits(tokens[row, mask[row]][None]) for row in rows.tolist()])
    subject.passes.forward = counted
    difference = float((together - alone).abs().max() / alone.std().clamp_min(1e-30))
    if difference > (SEEN if subject.is_exact else SEEN_IN_HALF):
        subject.heeds_padding = False
        raise UserInputError(
            "prompts of several lengths cannot be run together in "
            f"{subject.bridge.cfg.architecture}: with padding the logits of a prompt are others "
            f"than alone, by up to {difference:.2g} standard deviations. Take prompts of one "
            "length (`lengths: one`)."
        )
