"""Controls: what steering reaches without knowing anything of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting

Draw = Annotated[int, Field(ge=0)]
CONTROLS = 1_500_000_007
"""Added to the seeds of controls, which would else repeat the numbers that training starts from
(torch's generator on the CPU reads 32 bits of a seed)."""


def draw_generator(seed: int, draw: int) -> torch.Generator:
    """A generator of its own for every (seed, draw), and none that training starts from."""
    return torch.Generator().manual_seed(CONTROLS + 1_000_003 * seed + draw)


@dataclass(frozen=True)
class Random(Method):
    """Independent normal scores.

    Attributes:
        draw: which of the draws this is.
    """

    control: ClassVar[bool] = True

    draw: Draw = 0

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Draws a score for every point."""
        return Attribution(
            torch.randn(grid.shape, generator=draw_generator(setting.seed, self.draw))
        )


@dataclass(frozen=True)
class Shuffled(Method):
    """The scores of an untrained method at random places: its values without its localisation.

    Attributes:
        of: label of the method whose scores are shuffled.
        draw: which of the draws this is.
    """

    control: ClassVar[bool] = True

    of: str
    draw: Draw = 0

    @property
    def parent(self) -> str:
        """The method whose scores are shuffled."""
        return self.of

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Permutes the parent's scores over the points that take part.

        Raises:
            ValueError: if the setting brings no parent scores.
        """
        if setting.parent_scores is None:
            raise ValueError(f'shuffled needs the scores of "{self.of}"')
        scores = setting.parent_scores.cpu().clone()
        values = scores[grid.included]
        order = torch.randperm(len(values), generator=draw_generator(setting.seed, self.draw))
        scores[grid.included] = values[order]
        return Attribution(scores)
