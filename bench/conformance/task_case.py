"""A task as its checks see it, with a tokenizer in which each of its words is a token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from bench.conformance.check import require
from bench.plugin_entry import lacks_of_task
from tasks import TASKS
from tasks.encoding import EncodedTask, encode
from tasks.registry import configure, lookup
from tasks.task import SPLITS, PromptPair, Task

SIZES = {"train": 4, "test": 6, "shifted": 6}
LOOKED_AT = 300
"""Candidates of a split that are looked at."""
MAX_CANDIDATES = 200_000
BOS = 0


class Words:
    """A tokenizer in which every word with its leading space is a token, numbered as it comes.

    Letters, digits and punctuation are apart, and every digit is a token, as in many tokenizers.
    """

    split = re.compile(r" (?=\d)|\d| ?[^\W\d_]+| ?[^\s\w]+| ?_+|\s+")

    def __init__(self) -> None:
        self.ids: dict[str, int] = {"<bos>": BOS}
        self.words = ["<bos>"]

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The numbers of the words."""
        found = []
        for word in self.split.findall(text):
            if word not in self.ids:
                self.ids[word] = len(self.words)
                self.words.append(word)
            found.append(self.ids[word])
        return found

    def decode(self, token_ids: list[int]) -> str:
        """The words."""
        return "".join(self.words[token] for token in token_ids)


class TaskCase:
    """A task with its default settings."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entry = lookup(TASKS, name, "task")
        self.kind: type[Any] = self.entry.load()
        lacks = "; ".join(lacks_of_task(self.kind))
        require(not lacks, lacks)
        self.task: Task = configure(self.kind, {}, f'task "{name}"')
        self.several = bool(getattr(self.task, "parts", ())) or (
            getattr(self.task, "lengths", "one") == "several"
        )

    @cached_property
    def entities(self) -> list[str]:
        """Everything that is divided between the splits."""
        return list(self.task.entities())

    def pairs(self, split: str, entities: Sequence[str] | None = None) -> list[PromptPair]:
        """The first candidates of a split."""
        chosen = self.entities if entities is None else entities
        return list(islice(self.task.candidates(split, chosen, 0), LOOKED_AT))

    @cached_property
    def has_shifted(self) -> bool:
        """Whether there is a third split; a file need not have one."""
        return bool(self.pairs("shifted"))

    def few(self, split: str) -> list[PromptPair]:
        """All candidates over five entities.

        Raises:
            NotConformingError: if there is no end to them.
        """
        drawn = self.task.candidates(split, self.entities[:5], 0)
        found = list(islice(drawn, MAX_CANDIDATES))
        require(len(found) < MAX_CANDIDATES, f"in {split}, candidates() does not come to an end")
        return found

    @cached_property
    def encoded(self) -> EncodedTask:
        """A few prompts of each split as tokens."""
        for split in SPLITS:
            self.few(split)  # or the search for usable ones would not end either
        sizes = {split: size for split, size in SIZES.items() if split != "shifted"}
        sizes = SIZES if self.has_shifted else sizes
        return encode(self.task, Words(), sizes, BOS, 0)
