"""From a task's strings to token ids: the checks on tokens live here, and nowhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.task import PromptPair, Task


class Tokenizer(Protocol):
    """What is asked of a tokenizer; those of Hugging Face have it."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(self, token_ids: list[int]) -> str: ...


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """The prompts of one split as token ids, all of one length, BOS included where there is one."""

    split: str
    pairs: tuple[PromptPair, ...]
    tokens: NDArray[np.int64]
    """Clean prompts, (prompt, position)."""
    corrupted: NDArray[np.int64]
    """Corrupted prompts, (prompt, position)."""
    answers: NDArray[np.int64]
    """Token ids of the answers, (prompt,)."""
    foils: NDArray[np.int64]
    """Token ids of the foils, (prompt,)."""
    token_strings: tuple[tuple[str, ...], ...]
    """What a reader is shown for every token of the clean prompt, per prompt."""
    has_bos: bool
    """Whether position 0 is the BOS token."""

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.pairs)

    @property
    def n_positions(self) -> int:
        """Length of every prompt in tokens, BOS included."""
        return int(self.tokens.shape[1])

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> "PromptBatch":
        """Return the batch of the prompts at `indices`, in that order; repeats are allowed."""
        chosen = [int(index) for index in indices]
        return replace(
            self,
            pairs=tuple(self.pairs[index] for index in chosen),
            tokens=self.tokens[chosen],
            corrupted=self.corrupted[chosen],
            answers=self.answers[chosen],
            foils=self.foils[chosen],
            token_strings=tuple(self.token_strings[index] for index in chosen),
        )


@dataclass(frozen=True)
class EncodedTask:
    """A task in the tokens of one model."""

    task: Task
    batches: dict[str, PromptBatch]
    """Split to its prompts; a split of size 0 is not there."""
    dropped: dict[str, int]
    """How many entities and pairs were dropped, by reason."""
