"""Ensemble and KeptSigns: scores of several methods together, and scores whose sign is sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from methods import METHODS
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.core.training import PositiveInt
from methods.method import Attribution, Method, Setting
from tasks.errors import UserInputError
from tasks.registry import configure, lookup


def member(name: str) -> Method:
    """A method with its default settings, by name.

    Raises:
        UserInputError: for an unknown method, a control, and one that is an ensemble itself.
    """
    kind = lookup(METHODS, name, "method").load()
    if kind.control or issubclass(kind, Ensemble | KeptSigns):
        raise UserInputError(f'"{name}" is a control or an ensemble, and can be no part of one.')
    made: Method = configure(kind, {}, f'method "{name}"')
    return made


def fit_member(
    name: str, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
) -> Attribution:
    """What a member gives.

    Raises:
        UserInputError: if it cannot score a site of the grid.
    """
    method = member(name)
    missing = set(grid.sites) - method.sites
    if missing:
        raise UserInputError(f'"{name}" cannot score {", ".join(sorted(missing))}.')
    return method.fit(subject, prompts, grid, setting)


@dataclass(frozen=True)
class Ensemble(Method):
    """The score of a point is the mean of its ranks with several methods, with their signs.

    A method's scores are ranked by size; the rank (ties share their mean) over the number of points
    has the sign of the score, and 0 stays 0. If a member has no sign, sizes alone are averaged.
    Members are fitted anew with their default settings, whatever other cells of the matrix did.

    Attributes:
        members: names of methods.
    """

    members: tuple[str, ...] = ("attr_patch", "grad_scalar", "path_gradients")

    def __post_init__(self) -> None:
        if len(set(self.members)) < max(2, len(self.members)):
            raise UserInputError("members: an ensemble needs two methods or more, none twice.")
        for name in self.members:
            member(name)

    @property
    def signed(self) -> bool:
        """If all members are."""
        return all(member(name).signed for name in self.members)

    def gradient_runs(self, n_layers: int, n_sites: int) -> int:
        """Those of all members."""
        return sum(member(name).gradient_runs(n_layers, n_sites) for name in self.members)

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Fits every member.

        Raises:
            UserInputError: if a member cannot score a site of the grid.
        """
        ranked = [
            normalised_ranks(fit_member(name, subject, prompts, grid, setting).scores, grid)
            for name in self.members
        ]
        scores = torch.stack(ranked if self.signed else [one.abs() for one in ranked])
        return Attribution(scores.mean(dim=0))


def normalised_ranks(
    scores: Float[Tensor, "place layer position"], grid: PointGrid
) -> Float[Tensor, "place layer position"]:
    """Rank by size over the number of points, with the score's sign; 0 where the score is 0."""
    from scipy.stats import rankdata

    values = scores.cpu()[grid.included]
    ranks = torch.from_numpy(rankdata(values.abs().numpy())).float() / len(values)
    found = torch.zeros(grid.shape)
    found[grid.included] = ranks * values.sign()
    return found


@dataclass(frozen=True)
class KeptSigns(Method):
    """The score of a point is another method's, or 0 where its sign depends on the prompts.

    Train prompts are drawn anew with replacement, as many as there are; a score is kept if its mean
    over the draw has the sign of the score in at least `share` of the draws.

    Source: the percentile bootstrap (Efron 1979).

    Attributes:
        of: name of the method, with its default settings; it has to give scores by prompt.
        share: of the draws that have to agree.
        draws: of the prompts.
    """

    of: str = "attr_patch"
    share: Annotated[float, Field(gt=0.5, le=1)] = 0.95
    draws: PositiveInt = 500

    def __post_init__(self) -> None:
        if not member(self.of).signed:
            raise UserInputError(f'of: scores of "{self.of}" have no sign that could be kept.')

    def gradient_runs(self, n_layers: int, n_sites: int) -> int:
        """Those of the method."""
        return member(self.of).gradient_runs(n_layers, n_sites)

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        """Fits the method once; the share of draws that agree is stored (`extra.agreeing`).

        Raises:
            UserInputError: if the method gives no scores by prompt, or cannot score a site.
        """
        found = fit_member(self.of, subject, prompts, grid, setting)
        per_prompt = found.prompt_scores
        if per_prompt is None:
            raise UserInputError(f'of: "{self.of}" gives no scores by prompt to draw from.')
        generator = torch.Generator().manual_seed(setting.seed)
        n = len(prompts)
        drawn = torch.randint(n, (self.draws, n), generator=generator)
        weights = torch.zeros(self.draws, n).scatter_add_(1, drawn, torch.ones(self.draws, n)) / n
        means = weights.to(per_prompt.device) @ per_prompt.flatten(1)
        signs = found.scores.flatten().sign()
        agreeing = (means.sign() == signs).float().mean(dim=0).view(grid.shape)
        kept = agreeing >= self.share
        return Attribution(
            found.scores * kept,
            prompt_scores=per_prompt * kept,
            extras={"agreeing": agreeing},
        )
