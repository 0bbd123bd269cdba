"""Whether a cell leaves the model, its prompts and torch as it found them.

Cells of a run share a model and a process. A hook that stays, a weight that is set or a grad mode
that is changed would go into every number after it, so each is looked for after every cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from bench.running.model_state import Change, ModelState
from bench.running.torch_state import TorchState, modes
from bench.running.weights import Weights
from methods.core.points import PointGrid
from methods.core.prompts import Prompts

SHOWN = 3
"""Places that are named of each kind of change."""


class LeftBehindError(RuntimeError):
    """A method did not leave the model, its prompts or torch as it found them."""


def method_data(prompts: Prompts, grid: PointGrid) -> Weights:
    """What a method is given beside the model, and other cells of the task are given too."""
    of_prompts = [
        (f"prompts.{name}", value)
        for name, value in vars(prompts).items()
        if isinstance(value, Tensor)
    ]
    return Weights([*of_prompts, ("grid.included", grid.included)])


@dataclass
class Found:
    """What has to be left as it was found; torch's state is that of the moment this is made.

    Attributes:
        model: None where there is none.
        data: what a method is given, see `method_data`.
        clean: nothing was left, so the model can be used again.
    """

    model: ModelState | None = None
    data: Sequence[Weights] = ()
    torch_state: TorchState = field(default_factory=TorchState)
    clean: bool = False

    @contextmanager
    def left_by(self, who: str) -> Iterator[Found]:
        """Looks at the end of the block, and puts back what is torch's own.

        An error of the block's stays that error: what was left besides is a note on it.

        Args:
            who: the method or task whose block it is, as a user knows it.

        Raises:
            LeftBehindError: if something is otherwise.
        """
        try:
            with modes():
                try:
                    yield self
                except BaseException as error:
                    left = self._look()
                    if left:
                        error.add_note(f"{who} also left changed: {left}")
                    raise
                left = self._look()
                if left:
                    raise LeftBehindError(
                        f"{who} left changed: {left}. What comes after it would be computed with "
                        "that; whatever is changed has to be undone, also where something breaks."
                    )
        finally:
            self.torch_state.restore()
            if self.model is not None:
                self.model.code.restore()

    def _look(self) -> str:
        left = left_behind(self.torch_state, self.model, *self.data)
        rewritten = self.model is not None and self.model.was_written_to()
        self.clean = not left and not rewritten
        return left


def left_behind(torch_state: TorchState, model: ModelState | None, *data: Weights) -> str:
    """What is otherwise than it was, in words and with its places; "" if nothing is."""
    changes = [
        *(Change("torch's own state", words) for words in torch_state.changes()),
        *([] if model is None else model.changes()),
        *(
            Change("what it is given", name)
            for weights in data
            for names in weights.changes().values()
            for name in names
        ),
    ]
    return in_words(changes)


def in_words(changes: Iterable[Change]) -> str:
    """Changes of a kind together: `hooks (blocks.0.mlp); weights (unembed.weight)`."""
    places: dict[str, list[str]] = {}
    for change in changes:
        places.setdefault(change.what, []).append(change.where)
    words = []
    for what, where in places.items():
        more = f" and {len(where) - SHOWN} more" if len(where) > SHOWN else ""
        words.append(f"{what} ({', '.join(where[:SHOWN])}{more})")
    return "; ".join(words)
