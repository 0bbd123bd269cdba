"""From a task's strings to token ids: the checks on tokens live here, and nowhere else."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.errors import UserInputError, nearest
from tasks.task import SPLITS, PromptPair, Task


class Tokenizer(Protocol):
    """What is asked of a tokenizer; those of Hugging Face have it."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(self, token_ids: list[int]) -> str: ...


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


@dataclass(frozen=True)
class EncodedTask:
    """A task in the tokens of one model."""

    task: Task
    batches: dict[str, PromptBatch]
    """Split to its prompts; a split of size 0 is not there."""
    dropped: dict[str, int]
    """How many entities and pairs were dropped, by reason."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of its prompts in tokens, BOS included, ascending."""
        found = {int(n) for batch in self.batches.values() for n in batch.lengths}
        return tuple(sorted(found))


@dataclass(frozen=True)
class _TokenPair:
    """One pair in token ids, without BOS."""

    clean: list[int]
    corrupted: list[int]
    answer: int
    foil: int


class _RejectedError(Exception):
    """A pair that breaks a rule on tokens; the message is the reason that is counted."""


def encode(
    task: Task,
    tokenizer: Tokenizer,
    sizes: Mapping[str, int],
    bos_id: int | None,
    seed: int,
    *,
    at_most: bool = False,
) -> EncodedTask:
    """Draw the prompts of a task and check them in a model's tokens.

    `sizes` says how many prompts each split gets; a split left out or of size 0 is not made. With
    `at_most`, a split that has fewer gets what there is, at least one.
    `bos_id` is put in front of every prompt, once, unless it is None. First come the entities that
    this tokenizer can use in every split asked for: answer in one token, and the prompt length that
    most of them have. A shuffle drawn from `seed` divides them into two halves, one for `train` and
    one for `test` and `shifted`. Pairs over each half are then taken in the task's own order if

    - answer and foil are one token each as continuations of the whole prompt, and differ;
    - the clean prompt has the common length, unless the task's setting `lengths` is "several";
    - the corrupted prompt has as many tokens as the clean one.

    Raises `UserInputError` for sizes that are not sizes, and where a split has fewer pairs than
    asked for: the message says how many there are and why others were dropped.
    """
    wanted = _checked_sizes(task, sizes)
    parts: Sequence[Task] = getattr(task, "parts", ())
    if parts:
        encoded = [
            encode(part, tokenizer, shares, bos_id, seed, at_most=at_most)
            for part, shares in zip(parts, _shares(task, len(parts), wanted), strict=True)
        ]
        return _joined(task, encoded)
    dropped: Counter[str] = Counter()
    for split in set(wanted) - set(getattr(task, "splits", SPLITS)):
        if split != "shifted":
            raise UserInputError(f'Task "{_title(task)}" has no prompts for the split "{split}".')
        dropped[f"split: the task has no {split} prompts"] = wanted.pop(split)
    usable, length = _usable_entities(task, tokenizer, wanted, dropped)
    drawn = {
        split: _drawn(task, tokenizer, split, wanted[split], held, seed, length, dropped, at_most)
        for split, held in _divided(task, usable, wanted, seed).items()
    }
    batches = {split: _batch(split, pairs, tokenizer, bos_id) for split, pairs in drawn.items()}
    longest = max(batch.n_positions for batch in batches.values())
    batches = {split: batch.aligned(longest) for split, batch in batches.items()}
    return EncodedTask(task=task, batches=batches, dropped=dict(sorted(dropped.items())))


def _shares(task: Task, n_parts: int, sizes: Mapping[str, int]) -> list[dict[str, int]]:
    """Divide the prompts of every split evenly among the parts of a mixture."""
    for split, size in sizes.items():
        if size < n_parts:
            raise UserInputError(
                f'Task "{_title(task)}": the split "{split}" has {size} prompts for a mixture of '
                f"{n_parts} tasks; at least one for each is needed."
            )
    return [
        {split: size // n_parts + (part < size % n_parts) for split, size in sizes.items()}
        for part in range(n_parts)
    ]


def _joined(task: Task, encoded: Sequence[EncodedTask]) -> EncodedTask:
    """Put the parts of a mixture into common splits, a prompt of each in turn."""
    longest = max(batch.n_positions for part in encoded for batch in part.batches.values())
    batches = {}
    for split in SPLITS:
        parts = [part.batches[split].aligned(longest) for part in encoded if split in part.batches]
        if parts:
            batches[split] = _interleaved(parts)
    dropped: Counter[str] = Counter()
    for part in encoded:
        dropped.update({f"{_title(part.task)}: {why}": n for why, n in part.dropped.items()})
    return EncodedTask(task=task, batches=batches, dropped=dict(sorted(dropped.items())))


def _interleaved(batches: Sequence[PromptBatch]) -> PromptBatch:
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


def _divided(
    task: Task, usable: list[str], splits: Mapping[str, int], seed: int
) -> dict[str, list[str]]:
    """Return the entities of every split: a half for train, and the other one for the others."""
    if getattr(task, "divided", False):
        return dict.fromkeys(splits, usable)
    order = list(usable)
    Random(f"halves/{getattr(task, 'divided_as', task.name)}/{seed}").shuffle(order)
    half = len(order) // 2
    return {split: order[:half] if split == "train" else order[half:] for split in splits}


def _title(task: Task) -> str:
    """Return what a task is called in messages."""
    return str(getattr(task, "title", task.name))


def _checked_sizes(task: Task, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the splits to make, in the order of `SPLITS`."""
    for split, size in sizes.items():
        if split not in SPLITS:
            raise UserInputError(
                f'Task "{_title(task)}": there is no split "{split}".{nearest(str(split), SPLITS)}'
            )
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise UserInputError(
                f'Task "{_title(task)}": the split "{split}" cannot have {size!r} prompts; '
                "a whole number from 0 on is needed."
            )
    if not sizes.get("train"):
        raise UserInputError(f'Task "{_title(task)}": the split "train" needs at least 1 prompt.')
    return {split: sizes[split] for split in SPLITS if sizes.get(split)}


def _usable_entities(
    task: Task, tokenizer: Tokenizer, splits: Mapping[str, int], dropped: Counter[str]
) -> tuple[list[str], int | None]:
    """Return the entities that the tokenizer can use in all splits, and their prompt length.

    None stands for any length.
    """
    lengths: dict[str, list[int]] = {}
    for entity in task.entities():
        try:
            probes = [_token_pair(tokenizer, task.probe(split, entity)) for split in splits]
        except _RejectedError as rejection:
            dropped[f"entity: {rejection}"] += 1
        else:
            lengths[entity] = [len(probe.clean) for probe in probes]
    if getattr(task, "lengths", "one") == "several":
        return list(lengths), None
    if not lengths:
        return [], 0
    counts = Counter(of_splits[0] for of_splits in lengths.values())
    # Most frequent in train; of equally frequent lengths the shorter, whatever the order.
    common = min(counts, key=lambda length: (-counts[length], length))
    usable = []
    for entity, of_splits in lengths.items():
        if all(length == common for length in of_splits):
            usable.append(entity)
        else:
            dropped[f"entity: a prompt is not {common} tokens long, as most train prompts are"] += 1
    return usable, common


def _drawn(
    task: Task,
    tokenizer: Tokenizer,
    split: str,
    size: int,
    entities: Sequence[str],
    seed: int,
    length: int | None,
    dropped: Counter[str],
    at_most: bool,
) -> list[tuple[PromptPair, _TokenPair]]:
    """Return the first `size` valid pairs of a split."""
    valid = _valid_pairs(task, tokenizer, split, entities, seed, length, dropped)
    drawn = list(islice(valid, size))
    if len(drawn) < size and not (at_most and drawn):
        raise UserInputError(_too_few(task, split, size, len(drawn), len(entities), dropped))
    return drawn


def _valid_pairs(
    task: Task,
    tokenizer: Tokenizer,
    split: str,
    entities: Sequence[str],
    seed: int,
    length: int | None,
    dropped: Counter[str],
) -> Iterator[tuple[PromptPair, _TokenPair]]:
    """Yield the pairs of a split that keep every rule, and count why others do not."""
    for pair in task.candidates(split, entities, seed):
        try:
            tokens = _token_pair(tokenizer, pair)
            if tokens.answer == tokens.foil:
                raise _RejectedError("answer and foil are the same token")
            if length is not None and len(tokens.clean) != length:
                raise _RejectedError(f"the clean prompt is not {length} tokens long")
        except _RejectedError as rejection:
            dropped[f"pair: {rejection}"] += 1
        else:
            yield pair, tokens


def _token_pair(tokenizer: Tokenizer, pair: PromptPair) -> _TokenPair:
    """Tokenise a pair, or raise `_RejectedError` if it breaks a rule that needs no other pair."""
    clean = tokenizer.encode(pair.clean, add_special_tokens=False)
    corrupted = tokenizer.encode(pair.corrupted, add_special_tokens=False)
    if len(clean) != len(corrupted):
        raise _RejectedError("clean and corrupted prompt differ in length")
    # After both prompts: the logit difference of the corrupted run reads the same two tokens.
    continuations = {}
    for role, text in (("answer", pair.answer), ("foil", pair.foil)):
        tokens = {_continuation(tokenizer, pair.clean, clean, text)}
        tokens.add(_continuation(tokenizer, pair.corrupted, corrupted, text))
        token = tokens.pop()
        if tokens or token is None:
            raise _RejectedError(f"the {role} is not one token")
        continuations[role] = token
    return _TokenPair(clean, corrupted, continuations["answer"], continuations["foil"])


def _continuation(
    tokenizer: Tokenizer, prompt: str, prompt_tokens: list[int], text: str
) -> int | None:
    """Return the one token that `text` adds to the prompt; None if it adds more or changes it."""
    tokens = tokenizer.encode(prompt + text, add_special_tokens=False)
    if len(tokens) == len(prompt_tokens) + 1 and tokens[:-1] == prompt_tokens:
        return tokens[-1]
    return None


def _too_few(
    task: Task, split: str, size: int, found: int, n_entities: int, dropped: Mapping[str, int]
) -> str:
    """Say why a split has too few prompts."""
    reasons = "; ".join(f"{reason} ({count})" for reason, count in sorted(dropped.items()))
    return (
        f'Task "{_title(task)}": the split "{split}" was to have {size} prompts, but only {found} '
        f"are available over its {n_entities} entities with this tokenizer. "
        f"Dropped: {reasons or 'nothing'}. "
        "Ask for fewer prompts, or choose another template or a model with another tokenizer."
    )


def _batch(
    split: str,
    drawn: Sequence[tuple[PromptPair, _TokenPair]],
    tokenizer: Tokenizer,
    bos_id: int | None,
) -> PromptBatch:
    """Stack the pairs of a split, with the BOS in front."""

    def with_bos(tokens: list[int]) -> list[int]:
        # Some tokenizers put one in front even when asked for no special tokens: never two.
        return tokens if bos_id is None or tokens[:1] == [bos_id] else [bos_id, *tokens]

    clean = _aligned([with_bos(tokens.clean) for _, tokens in drawn])
    strings = {int(token): tokenizer.decode([int(token)]) for token in np.unique(clean[clean >= 0])}
    strings[PADDING] = ""
    return PromptBatch(
        split=split,
        pairs=tuple(pair for pair, _ in drawn),
        tokens=clean,
        corrupted=_aligned([with_bos(tokens.corrupted) for _, tokens in drawn]),
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
