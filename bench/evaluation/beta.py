"""beta tuning: the strength at which untrained scores steer best, found on the train split only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor

from bench.evaluation.response import Response
from bench.evaluation.split import Split, respond
from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.subject import SubjectModel

STEPS_PER_DECADE = 4
STEPS = range(-8, 9)
"""|beta| = 10^(k/4) for these k: 0.01 to 100."""
REFINEMENT_EVALUATIONS = 20
REFINEMENT_TOLERANCE = 0.005
"""In log10 |beta|: 1 %. The refinement stops there, or after its evaluations."""
ALWAYS = (10 ** (min(STEPS) / STEPS_PER_DECADE), 1.0)
"""|beta| that run on every prompt: the smallest, which the others have to beat, and 1, at which
every result is reported."""
SLACK = 1e-5
"""Of the best objective: what rounding may take from a bound."""
WORST = 1e30
"""Cost of a strength without numbers: finite, so that the search can go on around it."""


@dataclass(frozen=True, eq=False)
class BetaTuning:
    """A tuned strength and the curve that it was found on.

    Attributes:
        star: beta*, positive or negative.
        beta: every strength that was tried, ascending.
        objective: E_m + lambda_f F on the train split at each; NaN where a strength was given up
            before all prompts had run, since it could not be the best any more.
        response: the train split's response to all that were not given up, and to 0.
    """

    star: float
    beta: tuple[float, ...]
    objective: tuple[float, ...]
    response: Response


def tune_beta(
    subject: SubjectModel, train: Split, intervention: Intervention, objective: Objective
) -> BetaTuning:
    """Finds the beta that maximises E_m + lambda_f F on the train prompts.

    Both signs of |beta| = 10^(k/4), k = -8 .. 8; then a bounded scalar search between the
    neighbours of the best. Ties go to the smallest |beta|, then to the positive sign.

    Args:
        subject: the model.
        train: the train split.
        intervention: activation scalars made from scores.
        objective: margin and weights of the cell.
    """
    search = _Search(subject, train, intervention, objective)
    search.run(ALWAYS)
    sizes = [10 ** (step / STEPS_PER_DECADE) for step in STEPS]
    search.run_while_best([size for size in sizes if size not in ALWAYS])
    search.refine()
    curve = sorted({**dict.fromkeys(search.given_up, math.nan), **search.values}.items())
    return BetaTuning(
        search.best,
        tuple(beta for beta, _ in curve),
        tuple(value for _, value in curve),
        Response.join(search.responses),
    )


@dataclass(eq=False)
class _Search:
    """What is known of the objective so far.

    Attributes:
        values: objective by strength, of those that ran on every prompt.
        given_up: strengths that did not.
        responses: of those that ran on every prompt, and of 0.
    """

    subject: SubjectModel
    train: Split
    intervention: Intervention
    objective: Objective
    values: dict[float, float] = field(default_factory=dict)
    given_up: list[float] = field(default_factory=list)
    responses: list[Response] = field(init=False)

    def __post_init__(self) -> None:
        self.responses = [self.train.unsteered]

    @property
    def best(self) -> float:
        """The best strength; of several the smallest, then the positive one."""
        return max(self.values, key=lambda beta: (self.values[beta], -abs(beta), beta))

    def run(self, sizes: Sequence[float]) -> None:
        """Both signs of every |beta| on all prompts."""
        self._keep(self._respond(self.train, _both_signs(sizes)))

    def run_while_best(self, sizes: list[float]) -> None:
        """Both signs of every |beta| on more and more prompts, as long as one may be the best.

        The objective is a mean of terms that are at most 0, so those of the first prompts bound
        it: what is given up could not have been chosen.
        """
        n_prompts, done = len(self.train.prompts), 0
        parts: list[Response] = []
        while sizes and done < n_prompts:
            prompts = range(done, min(max(1, 2 * done), n_prompts))
            beta = _both_signs(sizes)
            parts = [part.select(beta) for part in parts]
            parts.append(self._respond(self.train.take(prompts), beta))
            done = prompts.stop
            bound = Response.stack(parts).behaviour(self.objective) * (done / n_prompts)
            best = self.values[self.best]
            alive = (bound >= best - SLACK * abs(best)).view(-1, 2).any(dim=1).tolist()
            self.given_up += beta.view(-1, 2)[~torch.tensor(alive)].flatten().tolist()
            sizes = [size for size, may_win in zip(sizes, alive, strict=True) if may_win]
        if sizes:
            beta = _both_signs(sizes)
            self._keep(Response.stack([part.select(beta) for part in parts]))

    def refine(self) -> None:
        """A bounded search between the neighbours of the best strength of the grid."""
        coarse = self.best
        if not math.isfinite(self.values[coarse]):
            return
        sign, centre = math.copysign(1, coarse), math.log10(abs(coarse))

        def cost(exponent: float) -> float:
            self.run([10**exponent])
            nearest = min(self.values, key=lambda beta: abs(beta - sign * 10**exponent))
            return min(-self.values[nearest], WORST)

        width = 1 / STEPS_PER_DECADE
        limit = max(STEPS) / STEPS_PER_DECADE
        minimize_scalar(
            cost,
            bounds=(max(centre - width, -limit), min(centre + width, limit)),
            method="bounded",
            options={"maxiter": REFINEMENT_EVALUATIONS, "xatol": REFINEMENT_TOLERANCE},
        )

    def _respond(self, split: Split, beta: Float[Tensor, " beta"]) -> Response:
        return respond(self.subject, split, self.intervention, beta)

    def _keep(self, response: Response) -> None:
        """Takes up strengths that ran on every prompt."""
        self.responses.append(response)
        values = response.behaviour(self.objective)
        self.values.update(zip(response.beta.tolist(), values.tolist(), strict=True))


def _both_signs(sizes: Sequence[float]) -> Float[Tensor, " beta"]:
    return torch.tensor([sign * size for size in sizes for sign in (1, -1)])
