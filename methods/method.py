"""What an attribution method gives. A new method is one file like its siblings and one line in
`methods/__init__.py`; hooks, beta tuning, evaluation, correlations, plots and the conformance
tests come for free. `docs/adding-a-method.md` walks through one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.points import ALL_SITES, PointGrid, Site
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel

LATER = {"later": True}
"""Metadata of a setting that a method got when cells of it had been stored: at its default it is no
part of what a cell is, so that those keep their ids."""


@dataclass(frozen=True)
class Setting:
    """What surrounds a fit.

    Attributes:
        objective: Psi with the cell's margin and weights, for methods that train on it.
        seed: of everything random.
        parent_scores: the scores of the method that `Method.parent` names.
    """

    objective: Objective
    seed: int
    parent_scores: Float[Tensor, "place layer position"] | None = None


@dataclass(frozen=True, eq=False)
class Attribution:
    """What a method found.

    Attributes:
        scores: raw attribution score of every point of the grid; positive means that the clean
            activation favours the answer. Points left out of the grid may hold anything.
        prompt_scores: the same prompt by prompt, where the method has it; `scores` is the mean.
        intervention: of a trained method, what it trained; of one with an intervention of its own,
            that. None: the scores become activation scalars (Eq. 5). The suite tunes the strength
            of what was not trained.
        extras: further arrays worth storing, by name.
        steps: optimiser steps, of a trained method.
        reach: of a trained method, steps times learning rate: about how far Adam can move a
            parameter, and so what a count of parameters over a threshold has to be judged by.
        notes: what a reader of the scores has to know.
    """

    scores: Float[Tensor, "place layer position"]
    prompt_scores: Float[Tensor, "prompt place layer position"] | None = None
    intervention: Intervention | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    reach: float | None = None
    notes: tuple[str, ...] = ()


class Method(ABC):
    """A frozen dataclass whose fields are the method's settings; calling it adds no state."""

    trained: ClassVar[bool] = False
    """The method's intervention is trained on Psi and needs no tuning of beta."""
    own_intervention: ClassVar[bool] = False
    """The method is not trained and yet gives an intervention; its beta is tuned as scores' is."""
    control: ClassVar[bool] = False
    """A control that other methods are compared with, not a method of interest."""
    sites: ClassVar[frozenset[Site]] = ALL_SITES
    """Where the method can score points."""
    runs_every_point: ClassVar[bool] = False
    """The method runs the model once a point and prompt, so that a large grid takes long."""
    any_length: ClassVar[bool] = False
    """The method takes prompts of several lengths, aligned at the answer position."""

    @property
    def signed(self) -> bool:
        """Whether a positive score favours the answer; not of sizes, which say where alone."""
        return True

    @property
    def parent(self) -> str | None:
        """Label of the method whose scores this one starts from."""
        return None

    @property
    def number_of_draw(self) -> int:
        """Which draw of a control this is. Draws after the first are there for the spread of what
        chance reaches: they are neither swept for display nor searched for the smallest k."""
        return int(getattr(self, "draw", 0))

    def gradient_runs(self, n_layers: int, n_sites: int) -> int:
        """Forwards with a backward that an untrained method takes a prompt: what `plan` counts by.

        Args:
            n_layers: layers of the model.
            n_sites: sites of the grid.
        """
        return 1

    @abstractmethod
    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Scores the points of `grid` from the train prompts, and leaves the model as found."""
