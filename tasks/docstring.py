"""Docstring: the next parameter to be described is the next one of the signature.

The task is that of Heimersheim and Janiak, 'A circuit for Python docstrings in a 4-layer
attention-only transformer' (2023).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from tasks.task import PromptPair, casts

TEMPLATE = '''def {verb}(self, {one}, {two}, {three}):
    """{title} the data.

    :{tag} {first}: {noun} value
    :{tag} {second}: {other_noun} value
    :{tag}'''
VERBS = ("send", "load", "save", "read", "write", "find", "build", "check", "start", "update")
NOUNS = ("first", "new", "old", "main", "local", "input", "raw", "common", "given", "current")
PARAMETERS = (
    "size", "files", "name", "path", "user", "date", "time", "text", "image", "color",
    "width", "height", "length", "weight", "speed", "state", "type", "index", "count",
    "limit", "page", "table", "row", "column", "key", "node", "edge", "graph", "model", "order",
    "price", "title", "city", "code", "mode", "port", "host", "group", "level", "point", "shape",
    "token", "word", "line", "rate", "score", "label", "target", "source", "event", "message",
)  # fmt: skip


@dataclass(frozen=True)
class Docstring:
    """Which parameter is described next: the third (answer), or the second once more (foil)?

    Entities are names of parameters. In the corrupted prompt the second and the third change
    places, in the signature and in the description, which reverses the task. The shifted split has
    another tag, `:arg`.
    """

    name: ClassVar[str] = "docstring"

    def entities(self) -> Sequence[str]:
        """Return the names of parameters."""
        return PARAMETERS

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the pair in which every parameter has this name."""
        return self._pair(split, (entity,) * 3, VERBS[0], NOUNS[:2])

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield one pair for every third and second parameter, balanced over both."""
        draw = Random(f"docstring/{seed}")
        for third, second, first in casts(entities, 3, seed):
            names = (first, second, third)
            yield self._pair(split, names, draw.choice(VERBS), draw.sample(NOUNS, 2))

    def _pair(
        self, split: str, names: Sequence[str], verb: str, nouns: Sequence[str]
    ) -> PromptPair:
        first, second, third = names

        def prompt(second: str, third: str) -> str:
            return TEMPLATE.format(
                verb=verb,
                title=verb.title(),
                one=first,
                two=second,
                three=third,
                tag="arg" if split == "shifted" else "param",
                first=first,
                second=second,
                noun=nouns[0],
                other_noun=nouns[1],
            )

        return PromptPair(
            clean=prompt(second, third),
            corrupted=prompt(third, second),
            answer=f" {third}",
            foil=f" {second}",
            entity=third,
        )
