"""The prompts of one split as tensors on the model's device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tasks.encoding import PromptBatch


@dataclass(frozen=True, eq=False)
class Prompts:
    """Token ids of clean and corrupted prompts with their answers and foils.

    Attributes:
        tokens: ids of the clean prompts, BOS included.
        corrupted: ids of the corrupted prompts, token for token of the same length.
        answers: id of each prompt's answer.
        foils: id of each prompt's foil.
        has_bos: position 0 is the BOS.
    """

    tokens: Int[Tensor, "prompt position"]
    corrupted: Int[Tensor, "prompt position"]
    answers: Int[Tensor, " prompt"]
    foils: Int[Tensor, " prompt"]
    has_bos: bool

    @staticmethod
    def of(batch: PromptBatch, device: torch.device | str = "cpu") -> Prompts:
        """The tensors of an encoded split."""
        arrays = (batch.tokens, batch.corrupted, batch.answers, batch.foils)
        tokens, corrupted, answers, foils = (
            torch.as_tensor(array, dtype=torch.int64).to(device) for array in arrays
        )
        return Prompts(tokens, corrupted, answers, foils, batch.has_bos)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_positions(self) -> int:
        """Length of the prompts in tokens, BOS included."""
        return self.tokens.shape[1]

    def take(self, indices: Sequence[int] | Int[Tensor, " chosen"]) -> Prompts:
        """The prompts at `indices`, in that order."""
        index = torch.as_tensor(indices, dtype=torch.int64, device=self.tokens.device)
        return Prompts(
            self.tokens[index],
            self.corrupted[index],
            self.answers[index],
            self.foils[index],
            self.has_bos,
        )

    def logit_difference(self, logits: Float[Tensor, "prompt vocab"]) -> Float[Tensor, " prompt"]:
        """LD = logit(answer) - logit(foil), a row a prompt."""
        return gather(logits, self.answers) - gather(logits, self.foils)


def gather(values: Float[Tensor, "row vocab"], ids: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
    """The value of one vocabulary entry a row."""
    return values.gather(1, ids[:, None])[:, 0]
