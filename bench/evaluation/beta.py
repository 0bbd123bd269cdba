"""beta tuning: the strength at which untrained scores steer best, found on the train split only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from bench.evaluation.response import Response
from bench.evaluation.split import Split, respond
from bench.matrix.stages import strengths_a_decade
from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.subject import SubjectModel

DECADES = 2
"""Below and above 1 in which |beta| is looked for: 0.01 to 100."""
ALWAYS = (10.0**-DECADES, 1.0)
"""|beta| that run on every prompt where none has before: the smallest, which the others have to
beat, and 1, at which every result is reported."""
MOST_TIPS = 2
"""Parabolas that are followed."""
TOLERANCE = 0.005
"""In log10 |beta|: 1 %. A tip of a parabola that is closer to a strength that ran is not run."""
SLACK = 1e-5
"""Of the best objective: what rounding may take from a bound."""


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
    subject: SubjectModel,
    train: Split,
    intervention: Intervention,
    objective: Objective,
    known: Response | None = None,
) -> BetaTuning:
    """Finds the beta that maximises E_m + lambda_f F on the train prompts.

    Both signs of |beta| = 10^(k/2), k = -4 .. 4, or on few prompts (`strengths_a_decade`) of
    10^(k/4), k = -8 .. 8; then half a step to either side of the best, then the tips of parabolas
    in log |beta| around the best. Ties go to the smallest |beta|, then to the positive sign.

    Args:
        subject: the model.
        train: the train split.
        intervention: activation scalars made from scores.
        objective: margin and weights of the cell.
        known: the train split's response to strengths and their negatives that were run before;
            it holds 0.
    """
    search = _Search(subject, train, intervention, objective)
    if known is not None and len(known.beta) > 1:
        search.keep(known.select(known.beta[known.beta != 0]))
    always = ALWAYS if not search.values else (1.0,)
    search.run(always)
    a_decade = strengths_a_decade(len(train.prompts))
    steps = range(-DECADES * a_decade, DECADES * a_decade + 1)
    sizes = [10 ** (step / a_decade) for step in steps]
    search.run_while_best([size for size in sizes if size not in always])
    search.refine(10 ** (0.5 / a_decade))
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
        self.keep(self._respond(self.train, _both_signs(sizes)))

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
            self.keep(Response.stack([part.select(beta) for part in parts]))

    def refine(self, near: float) -> None:
        """Runs the best strength times and over `near`, and the tips of parabolas around it."""
        coarse = self.best
        if not math.isfinite(self.values[coarse]):
            return
        beside = (abs(coarse) / near, abs(coarse) * near)
        self.run([size for size in beside if 10.0**-DECADES < size < 10.0**DECADES])
        for _ in range(MOST_TIPS):
            tip = self._tip()
            if tip is None:
                return
            self.run([tip])

    def _tip(self) -> float | None:
        """|beta| of the tip of the parabola around the best strength; None if that is known."""
        sign = math.copysign(1, self.best)
        sizes = sorted(abs(beta) for beta in self.values if beta * sign > 0)
        place = min(max(sizes.index(abs(self.best)), 1), len(sizes) - 2)
        near = sizes[place - 1 : place + 2]
        x, y = np.log10(near), np.array([self.values[sign * size] for size in near])
        tip = parabola_tip(x, y) if len(near) == 3 else None
        if tip is None or np.abs(x - tip[0]).min() <= TOLERANCE:
            return None
        return float(10 ** tip[0])

    def _respond(self, split: Split, beta: Float[Tensor, " beta"]) -> Response:
        return respond(self.subject, split, self.intervention, beta)

    def keep(self, response: Response) -> None:
        """Takes up strengths that ran on every prompt."""
        self.responses.append(response)
        values = response.behaviour(self.objective)
        self.values.update(zip(response.beta.tolist(), values.tolist(), strict=True))


def parabola_tip(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float] | None:
    """Where the parabola through three points is largest, and how large it is there.

    Args:
        x: ascending.
        y: its values; None comes back where one is not finite, where the parabola opens upwards,
            and where its tip is not between the outer points.
    """
    if not np.isfinite(y).all():
        return None
    a, b, c = np.polyfit(x, y, 2)
    if not a < 0:
        return None
    tip = float(-b / (2 * a))
    return (tip, float(a * tip**2 + b * tip + c)) if x[0] < tip < x[2] else None


def _both_signs(sizes: Sequence[float]) -> Float[Tensor, " beta"]:
    return torch.tensor([sign * size for size in sizes for sign in (1, -1)])
