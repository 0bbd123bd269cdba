"""Controls: what steering reaches without knowing where a model does a task.

Controls act only at points that could matter: where clean and corrupted run differ and from which a
path leads to the answer. Else a method would beat them by knowing where the prompts differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from methods.core.points import PointGrid, Site
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


def points_that_could_matter(
    prompts: Prompts, grid: PointGrid
) -> Bool[Tensor, "place layer position"]:
    """True where clean and corrupted run of some prompt differ and a path leads to the answer.

    Runs differ from the first token on that differs; what the first layer makes of a token alone
    (its query, key and value) only at tokens that differ. Where nothing differs, all points could
    matter.
    """
    differs = (prompts.tokens != prompts.corrupted).any(dim=0).cpu()
    chosen = list(grid.positions)
    found = grid.included & grid.reaches_answer & (differs.cumsum(dim=0) > 0)[chosen]
    for row, place in enumerate(grid.places):
        if place.site in (Site.Q, Site.K, Site.V):
            found[row, 0] &= differs[chosen]
    return found if found.any() else grid.included.clone()


@dataclass(frozen=True)
class Random(Method):
    """Independent normal scores at the points that could matter, 0 elsewhere.

    Attributes:
        draw: which of the draws this is.
    """

    control: ClassVar[bool] = True

    draw: Draw = 0

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Draws a score for every point that could matter."""
        scores = torch.randn(grid.shape, generator=draw_generator(setting.seed, self.draw))
        return Attribution(scores * points_that_could_matter(prompts, grid))


@dataclass(frozen=True)
class Shuffled(Method):
    """The scores of a method at random places: its values without its localisation.

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
        """Permutes the parent's scores among the points that could matter; 0 elsewhere.

        Raises:
            ValueError: if the setting brings no parent scores.
        """
        if setting.parent_scores is None:
            raise ValueError(f'shuffled needs the scores of "{self.of}"')
        chosen = points_that_could_matter(prompts, grid)
        values = setting.parent_scores.cpu()[chosen]
        order = torch.randperm(len(values), generator=draw_generator(setting.seed, self.draw))
        scores = torch.zeros(grid.shape)
        scores[chosen] = values[order]
        return Attribution(scores)
