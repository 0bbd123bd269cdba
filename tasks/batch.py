"""The prompts of one split as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasks.task import PromptPair
from tasks.tokens import Tokenizer, TokenPair, behind_bos, token_strings

PADDING = -1
"""Stands in `PromptBatch.tokens` where a prompt has no token; no vocabulary has it."""


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """The prompts of one split as token ids, BOS included where there is one.

    Prompts end at the same position, the answer position. Where a task has several lengths,
    `PADDING` stands in front of the shorter ones, up to the longest of all its splits.
    """

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
    """What a reader is shown for every position of the clean prompt, per prompt; "" is padding."""
    has_bos: bool
    """Whether the first token of every prompt is the BOS."""

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.pairs)

    @property
    def n_positions(self) -> int:
        """Length of the longest prompt in tokens, BOS included."""
        return int(self.tokens.shape[1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of every prompt in tokens, BOS included, (prompt,)."""
        lengths: NDArray[np.int64] = (self.tokens != PADDING).sum(axis=1)
        return lengths

    def aligned(self, n_positions: int) -> "PromptBatch":
        """Return the batch with padding in front up to `n_positions`."""
        missing = n_positions - self.n_positions
        if not missing:
            return self
        in_front = ((0, 0), (missing, 0))
        return replace(
            self,
            tokens=np.pad(self.tokens, in_front, constant_values=PADDING),
            corrupted=np.pad(self.corrupted, in_front, constant_values=PADDING),
            token_strings=tuple(("",) * missing + row for row in self.token_strings),
        )

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


def stacked(
    split: str,
    drawn: Sequence[tuple[PromptPair, TokenPair]],
    tokenizer: Tokenizer,
    bos_id: int | None,
) -> PromptBatch:
    """Return the pairs of a split as a batch, with the BOS in front."""
    clean = _aligned([behind_bos(tokens.clean, bos_id) for _, tokens in drawn])
    strings = {**token_strings(tokenizer, clean[clean >= 0]), PADDING: ""}
    return PromptBatch(
        split=split,
        pairs=tuple(pair for pair, _ in drawn),
        tokens=clean,
        corrupted=_aligned([behind_bos(tokens.corrupted, bos_id) for _, tokens in drawn]),
        answers=np.array([tokens.answer for _, tokens in drawn], dtype=np.int64),
        foils=np.array([tokens.foil for _, tokens in drawn], dtype=np.int64),
        token_strings=tuple(tuple(strings[token] for token in row) for row in clean.tolist()),
        has_bos=bos_id is not None,
    )


def _aligned(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return prompts as an array in which all end at the same position."""
    aligned = np.full((len(rows), max(map(len, rows))), PADDING, dtype=np.int64)
    for row, tokens in zip(aligned, rows, strict=True):
        row[len(row) - len(tokens) :] = tokens
    return aligned


def interleaved(batches: Sequence[PromptBatch]) -> PromptBatch:
    """Join batches of one alignment, a prompt of each in turn."""
    whole = replace(
        batches[0],
        pairs=tuple(pair for batch in batches for pair in batch.pairs),
        tokens=np.concatenate([batch.tokens for batch in batches]),
        corrupted=np.concatenate([batch.corrupted for batch in batches]),
        answers=np.concatenate([batch.answers for batch in batches]),
        foils=np.concatenate([batch.foils for batch in batches]),
        token_strings=tuple(row for batch in batches for row in batch.token_strings),
    )
    turns = [(turn, part) for part, batch in enumerate(batches) for turn in range(len(batch))]
    return whole.take(sorted(range(len(turns)), key=turns.__getitem__))
