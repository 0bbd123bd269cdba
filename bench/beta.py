"""beta tuning: the strength at which untrained scores steer best, found on the train split only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar

from bench.response import Response
from bench.split import Split, respond
from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.subject import SubjectModel

STEPS_PER_DECADE = 4
STEPS = range(-8, 9)
"""|beta| = 10^(k/4) for these k: 0.01 to 100."""
REFINEMENT_EVALUATIONS = 20
REFINEMENT_TOLERANCE = 0.005
"""In log10 |beta|: 1 %. The refinement stops there, or after its evaluations."""
WORST = 1e30
"""Cost of a strength without numbers: finite, so that the search can go on around it."""


@dataclass(frozen=True, eq=False)
class BetaTuning:
    """A tuned strength and the curve that it was found on.

    Attributes:
        star: beta*, positive or negative.
        beta: every strength that was tried, ascending.
        objective: E_m + lambda_f F on the train split at each.
        response: the train split's response to all of them, and to 0.
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
    tried: dict[float, float] = {}
    responses = [train.unsteered]

    def evaluate(magnitudes: list[float]) -> None:
        beta = torch.tensor([sign * size for size in magnitudes for sign in (1, -1)])
        response = respond(subject, train, intervention, beta)
        responses.append(response)
        values = response.behaviour(objective)
        tried.update(zip(response.beta.tolist(), values.tolist(), strict=True))

    def best() -> float:
        return max(tried, key=lambda beta: (tried[beta], -abs(beta), beta))

    evaluate([10 ** (step / STEPS_PER_DECADE) for step in STEPS])
    coarse = best()
    if math.isfinite(tried[coarse]):
        sign, centre = math.copysign(1, coarse), math.log10(abs(coarse))

        def cost(exponent: float) -> float:
            evaluate([10**exponent])
            nearest = min(tried, key=lambda beta: abs(beta - sign * 10**exponent))
            return min(-tried[nearest], WORST)

        width = 1 / STEPS_PER_DECADE
        limit = max(STEPS) / STEPS_PER_DECADE
        minimize_scalar(
            cost,
            bounds=(max(centre - width, -limit), min(centre + width, limit)),
            method="bounded",
            options={"maxiter": REFINEMENT_EVALUATIONS, "xatol": REFINEMENT_TOLERANCE},
        )
    curve = sorted(tried.items())
    return BetaTuning(
        best(),
        tuple(beta for beta, _ in curve),
        tuple(value for _, value in curve),
        Response.join(responses),
    )
