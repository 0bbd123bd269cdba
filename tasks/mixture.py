"""A mixture of tasks: prompts of each in turn (the paper's Fig. 6)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, InstanceOf

from tasks.build import build_task, label_of
from tasks.ccc import CCC
from tasks.errors import UserInputError
from tasks.ioi import IOI
from tasks.task import PromptPair, Task


@dataclass(frozen=True)
class Part:
    """One of the tasks of a mixture."""

    name: str
    task: Task

    def __repr__(self) -> str:
        """Return what the task is called in tables."""
        return label_of(self.name, self.task)


def _parts(value: object) -> object:
    """Build the tasks that a matrix names, each by its name or as {name: ..., settings}."""
    if not isinstance(value, list | tuple):
        raise UserInputError(f"of is {value!r}; a mixture needs a list of tasks, as [ccc, ioi]")
    return tuple(_part(item) for item in value)


def _part(item: object) -> Part:
    if isinstance(item, Part):
        return item
    settings = {"name": item} if isinstance(item, str) else item
    if not isinstance(settings, Mapping) or not isinstance(settings.get("name"), str):
        raise UserInputError(f"of has {item!r}; a task is a name, or a mapping with its name")
    others = {key: value for key, value in settings.items() if key != "name"}
    return Part(*build_task(settings["name"], others))


@dataclass(frozen=True)
class Mixture:
    """The prompts of several tasks in turn; a split's prompts are divided evenly among them.

    Each task's prompts are the first that it gives alone, with the same entities on either side of
    the line between train and test: what is trained on the mixture has seen nothing of what any of
    its tasks is tested on. Lengths differ as the tasks' do.
    """

    of: Annotated[tuple[InstanceOf[Part], ...], BeforeValidator(_parts)] = (
        Part("ccc", CCC()),
        Part("ioi", IOI()),
    )
    """The tasks, by name or with settings of their own: [ccc, {name: ioi, order: BABA}]."""

    name: ClassVar[str] = "mixture"

    def __post_init__(self) -> None:
        """Check that there are several tasks, and that a mixture is none of them."""
        if len(self.of) < 2 or len(set(self.of)) < len(self.of):
            raise UserInputError(f"of is {list(self.of)}; a mixture needs two or more other tasks")
        if any(isinstance(part.task, Mixture) for part in self.of):
            raise UserInputError("of names a mixture; its tasks can stand there themselves")

    @property
    def parts(self) -> tuple[Task, ...]:
        """Return the tasks."""
        return tuple(part.task for part in self.of)

    @cached_property
    def _known(self) -> tuple[frozenset[str], ...]:
        return tuple(frozenset(task.entities()) for task in self.parts)

    def entities(self) -> Sequence[str]:
        """Return the entities of all tasks, a task after the other in turn."""
        turns = zip_longest(*(task.entities() for task in self.parts))
        return tuple(dict.fromkeys(entity for turn in turns for entity in turn if entity))

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the probe of the first task that knows the entity."""
        part = next(part for part, known in enumerate(self._known) if entity in known)
        return self.parts[part].probe(split, entity)

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield the pairs of all tasks over their own entities, a task after the other in turn."""
        own = [[one for one in entities if one in known] for known in self._known]
        streams = [
            task.candidates(split, known, seed) for task, known in zip(self.parts, own, strict=True)
        ]
        for turn in zip_longest(*streams):
            yield from (pair for pair in turn if pair)
