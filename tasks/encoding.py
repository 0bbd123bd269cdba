"""From a task's strings to the prompts of every split, in the tokens of one model."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random

from tasks.batch import PromptBatch, interleaved, stacked
from tasks.errors import UserInputError, message_of, nearest
from tasks.task import SPLITS, PromptPair, Task
from tasks.tokens import NO_LIMITS, Limits, RejectedError, Tokenizer, TokenPair, token_pair


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


def encode(
    task: Task,
    tokenizer: Tokenizer,
    sizes: Mapping[str, int],
    bos_id: int | None,
    seed: int,
    *,
    at_most: bool = False,
    limits: Limits = NO_LIMITS,
) -> EncodedTask:
    """Draw the prompts of a task and check them in a model's tokens.

    `sizes` says how many prompts each split gets; a split left out or of size 0 is not made. With
    `at_most`, a split that has fewer gets what there is, at least one.
    `bos_id` is put in front of every prompt, once, unless it is None. First come the entities that
    this tokenizer can use in every split asked for: answer in one token, and the prompt length that
    most of them have. A shuffle drawn from `seed` divides them into two halves, one for `train` and
    one for `test` and `shifted`. Pairs over each half are then taken in the task's own order if

    - answer and foil are one token each as continuations of the whole prompt, differ, and are none
      that stands for unknown words;
    - the model takes them: prompts fit into its context, BOS included, and it has an embedding for
      every token (`limits`);
    - the clean prompt has the common length, unless the task's setting `lengths` is "several";
    - the corrupted prompt has as many tokens as the clean one, not all the same, and none that
      stands for unknown words where they differ;
    - in tokens it is no pair of its split again, and outside train its clean prompt is none of it.

    Raises `UserInputError` for sizes that are not sizes, and where a split has fewer pairs than
    asked for: the message says how many there are and why others were dropped.
    """
    wanted = _checked_sizes(task, sizes)
    parts: Sequence[Task] = getattr(task, "parts", ())
    if parts:
        encoded = [
            encode(part, tokenizer, shares, bos_id, seed, at_most=at_most, limits=limits)
            for part, shares in zip(parts, _shares(task, len(parts), wanted), strict=True)
        ]
        return _joined(task, encoded)
    dropped: Counter[str] = Counter()
    for split in set(wanted) - set(getattr(task, "splits", SPLITS)):
        if split != "shifted":
            raise UserInputError(f'Task "{_title(task)}" has no prompts for the split "{split}".')
        dropped[f"split: the task has no {split} prompts"] = wanted.pop(split)
    drawing = _Drawing(task, tokenizer, bos_id, limits, seed, dropped)
    usable = drawing.usable_entities(wanted)
    drawn = {
        split: drawing.first(wanted[split], split, held, at_most=at_most)
        for split, held in _divided(task, usable, wanted, seed).items()
    }
    batches = {split: stacked(split, pairs, tokenizer, bos_id) for split, pairs in drawn.items()}
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
            batches[split] = interleaved(parts)
    dropped: Counter[str] = Counter()
    for part in encoded:
        dropped.update({f"{_title(part.task)}: {why}": n for why, n in part.dropped.items()})
    return EncodedTask(task=task, batches=batches, dropped=dict(sorted(dropped.items())))


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


@dataclass
class _Drawing:
    """Prompts of one task that keep every rule on tokens.

    Attributes:
        dropped: why entities and pairs were dropped, counted here.
        length: of every clean prompt, without BOS; None: any.
        drawn: the split with the tokens of every pair and clean prompt that was drawn.
    """

    task: Task
    tokenizer: Tokenizer
    bos_id: int | None
    limits: Limits
    seed: int
    dropped: Counter[str]
    length: int | None = None
    drawn: set[tuple[object, ...]] = field(default_factory=set)

    def tokens(self, pair: PromptPair) -> TokenPair:
        """Tokenise a pair; raises RejectedError as `token_pair`, and for what cannot be read."""
        try:
            return token_pair(self.tokenizer, pair, self.bos_id, self.limits)
        except RejectedError:
            raise
        except Exception as error:  # one without a token for unknown words raises just that
            raise RejectedError(f"the tokenizer cannot read it ({message_of(error)})") from error

    def usable_entities(self, splits: Mapping[str, int]) -> list[str]:
        """Return the entities that can be used in all splits, and keep their prompts' length."""
        lengths: dict[str, list[int]] = {}
        for entity in self.task.entities():
            try:
                probes = [self.tokens(self.task.probe(split, entity)) for split in splits]
            except RejectedError as rejection:
                self.dropped[f"entity: {rejection}"] += 1
            else:
                lengths[entity] = [len(probe.clean) for probe in probes]
        if getattr(self.task, "lengths", "one") == "several":
            return list(lengths)
        counts = Counter(of_splits[0] for of_splits in lengths.values())
        # Most frequent in train; of equally frequent lengths the shorter, whatever the order.
        common = min(counts, key=lambda length: (-counts[length], length), default=0)
        self.length = common
        usable = []
        for entity, of_splits in lengths.items():
            if all(length == common for length in of_splits):
                usable.append(entity)
            else:
                reason = f"a prompt is not {common} tokens long, as most train prompts are"
                self.dropped[f"entity: {reason}"] += 1
        return usable

    def first(
        self, size: int, split: str, entities: Sequence[str], *, at_most: bool
    ) -> list[tuple[PromptPair, TokenPair]]:
        """Return the first `size` valid pairs of a split."""
        drawn = list(islice(self._valid(split, entities), size))
        if len(drawn) < size and not (at_most and drawn):
            raise UserInputError(
                _too_few(self.task, split, size, len(drawn), len(entities), self.dropped)
            )
        return drawn

    def _valid(self, split: str, entities: Sequence[str]) -> Iterator[tuple[PromptPair, TokenPair]]:
        """Yield the pairs of a split that keep every rule, and count why others do not."""
        for pair in self.task.candidates(split, entities, self.seed):
            try:
                tokens = self.tokens(pair)
                clean = tuple(tokens.clean)
                whole = (split, clean, *tokens.corrupted, tokens.answer, tokens.foil)
                if tokens.answer == tokens.foil:
                    raise RejectedError("answer and foil are the same token")
                if tokens.clean == tokens.corrupted:
                    raise RejectedError("clean and corrupted prompt are the same tokens")
                if self.length is not None and len(tokens.clean) != self.length:
                    raise RejectedError(f"the clean prompt is not {self.length} tokens long")
                if whole in self.drawn or (split != "train" and ("train", clean) in self.drawn):
                    raise RejectedError("in tokens it is another pair, or its prompt is in train")
            except RejectedError as rejection:
                self.dropped[f"pair: {rejection}"] += 1
            else:
                self.drawn |= {whole, (split, clean)}
                yield pair, tokens


def _too_few(
    task: Task, split: str, size: int, found: int, n_entities: int, dropped: Mapping[str, int]
) -> str:
    """Say why a split has too few prompts."""
    reasons = "; ".join(f"{reason} ({count})" for reason, count in sorted(dropped.items()))
    advice = "Ask for fewer prompts, mend what was dropped, or choose another template or model."
    if len(task.entities()) < 2 and not getattr(task, "divided", False):
        advice = "Rows that share a prompt are one entity: say which are train and test (split)."
    return (
        f'Task "{_title(task)}": the split "{split}" was to have {size} prompts, but only {found} '
        f"are available over its {n_entities} entities with this tokenizer. "
        f"Dropped: {reasons or 'nothing'}. {advice}"
    )
