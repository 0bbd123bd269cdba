"""What the methods share that contrast a clean run with a corrupted one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from methods.core.corruption import (
    Contrast,
    Corruption,
    Direction,
    check_direction,
    contrasts,
)
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting


@dataclass(frozen=True)
class ContrastedMethod(Method):
    """Scores that are averaged over the contrasts of a corruption.

    Attributes:
        corruption: what the clean run is contrasted with.
        direction: which of the two runs is patched, and has its gradient taken: the clean one
            (noising) or the corrupted one (denoising).
    """

    corruption: Corruption = "counterfactual"
    direction: Direction = "noising"

    def __post_init__(self) -> None:
        check_direction(self.corruption, self.direction)

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Scores every contrast: one, or one a draw of the Gaussian noise."""
        found = contrasts(subject, prompts, grid, self.corruption, self.direction, setting.seed)
        scores = torch.stack([self.contrast_scores(subject, grid, contrast) for contrast in found])
        per_prompt = scores.mean(dim=0)
        return Attribution(per_prompt.mean(dim=0), prompt_scores=per_prompt)

    @abstractmethod
    def contrast_scores(
        self, subject: SubjectModel, grid: PointGrid, contrast: Contrast
    ) -> Float[Tensor, "prompt place layer position"]:
        """The scores of one contrast, prompt by prompt."""
