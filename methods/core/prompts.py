"""The prompts of one split as tensors on the model's device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tasks.batch import PADDING, PromptBatch


@dataclass(frozen=True, eq=False)
class Prompts:
    """Token ids of clean and corrupted prompts with their answers and foils.

    All prompts end at the last position. Prompts of several lengths have padding in front: an id
    that no vocabulary has, so that a forward without the mask is an error and never a wrong number.

    Attributes:
        tokens: ids of the clean prompts, BOS included.
        corrupted: ids of the corrupted prompts, token for token of the same length.
        answers: id of each prompt's answer.
        foils: id of each prompt's foil.
        has_bos: the first token of every prompt is the BOS.
        mask: False at padding; None where all prompts have one length.
    """

    tokens: Int[Tensor, "prompt position"]
    corrupted: Int[Tensor, "prompt position"]
    answers: Int[Tensor, " prompt"]
    foils: Int[Tensor, " prompt"]
    has_bos: bool
    mask: Bool[Tensor, "prompt position"] | None = None

    @staticmethod
    def of(batch: PromptBatch, device: torch.device | str = "cpu") -> Prompts:
        """The tensors of an encoded split."""
        arrays = (batch.tokens, batch.corrupted, batch.answers, batch.foils)
        tokens, corrupted, answers, foils = (
            torch.as_tensor(array, dtype=torch.int64).to(device) for array in arrays
        )
        mask = tokens != PADDING if bool((batch.tokens == PADDING).any()) else None
        return Prompts(tokens, corrupted, answers, foils, batch.has_bos, mask)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_positions(self) -> int:
        """Length of the longest prompt in tokens, BOS included."""
        return self.tokens.shape[1]

    @property
    def first(self) -> Int[Tensor, " prompt"] | None:
        """Each prompt's first position behind padding and BOS; None where all have one length."""
        if self.mask is None:
            return None
        return (~self.mask).sum(dim=1) + int(self.has_bos)

    def take(self, indices: Sequence[int] | Int[Tensor, " chosen"] | slice) -> Prompts:
        """The prompts at `indices`, in that order."""
        if isinstance(indices, slice):
            indices = range(*indices.indices(len(self)))
        index = torch.as_tensor(indices, dtype=torch.int64, device=self.tokens.device)
        return Prompts(
            self.tokens[index],
            self.corrupted[index],
            self.answers[index],
            self.foils[index],
            self.has_bos,
            None if self.mask is None else self.mask[index],
        )

    def logit_difference(self, logits: Float[Tensor, "prompt vocab"]) -> Float[Tensor, " prompt"]:
        """LD = logit(answer) - logit(foil), a row a prompt."""
        return gather(logits, self.answers) - gather(logits, self.foils)


def gather(values: Float[Tensor, "row vocab"], ids: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
    """The value of one vocabulary entry a row."""
    return values.gather(1, ids[:, None])[:, 0]
