"""One evaluator for every method: an intervention on a split -> metrics, sweeps, minimality."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from bench.evaluation.response import Response
from bench.evaluation.split import Split, respond
from bench.store.records import MetricRow, MinimalityRecord
from methods.core.intervention import Intervention
from methods.core.objective import Objective, effectiveness, faithfulness
from methods.core.subject import SubjectModel

COUNT_THRESHOLD = 0.01
"""|theta| from which a parameter counts (the paper's minimality)."""
KEPT_GAIN = 0.9
"""Share of the gain in E_0 that the smallest sufficient set of parameters keeps."""


def strengths(sizes: Iterable[float]) -> Float[Tensor, " beta"]:
    """The strengths at which a split is evaluated: 0, and both signs of some."""
    signed = [0.0, *(sign * size for size in sizes for sign in (1, -1))]
    return torch.tensor(list(dict.fromkeys(signed)))


def metric_row(
    split: Split,
    response: Response,
    intervention: Intervention,
    objective: Objective,
    kind: str,
    beta: float,
    price: float | None = None,
) -> MetricRow:
    """The metrics of one split at one strength (Eq. 6-9), from what is stored of every prompt.

    Args:
        split: the prompts.
        response: to the strength and its negative, among others.
        intervention: whose theta counts.
        objective: margin and weights.
        kind: of the strength, as in `MetricRow`.
        beta: the strength.
        price: for which it was chosen.
    """
    plus, minus = response.at(beta), response.at(-beta)
    ld_plus, ld_minus = response.ld[:, plus], response.ld[:, minus]
    kl_plus, kl_minus = response.kl[:, plus], response.kl[:, minus]
    mass = response.mass[:, [plus, minus]]
    m_1 = -abs(beta) * float(intervention.theta().detach().abs().sum())
    behaviour = objective.behaviour(ld_plus, ld_minus, kl_plus, kl_minus)
    return MetricRow(
        split=split.name,
        beta_kind=kind,
        beta=beta,
        price=price,
        n_prompts=len(split.prompts),
        E_0=float(effectiveness(ld_plus, ld_minus, 0.0)),
        E_0_unsteered=split.unsteered_e_0,
        E_m=float(effectiveness(ld_plus, ld_minus, objective.margin)),
        F=float(faithfulness(kl_plus, kl_minus)),
        M_1=m_1,
        Psi=float(behaviour) + objective.lambda_m * m_1,
        flips_plus=float((ld_plus > 0).float().mean()),
        flips_minus=float((ld_minus < 0).float().mean()),
        mass=float(mass.mean()),
        mass_unsteered=float(split.unsteered.mass.mean()),
    )


def minimality_of(
    subject: SubjectModel,
    train: Split,
    intervention: Intervention,
    beta: float,
    reach: float | None,
    search: bool = True,
) -> MinimalityRecord:
    """Both counts of how many parameters a method needs.

    Args:
        subject: the model.
        train: the train split, on which the second count keeps the gain in E_0.
        intervention: its parameters times |beta| are theta.
        beta: the strength that steers.
        reach: how far training could move a parameter; below twice the threshold the paper's
            count says nothing.
        search: look for the second count.
    """
    theta = intervention.theta().detach().abs() * abs(beta)
    return MinimalityRecord(
        count=int((theta >= COUNT_THRESHOLD).sum()),
        n_parameters=theta.numel(),
        nonzero=int((theta > 0).sum()),
        meaningful=reach is None or reach >= 2 * COUNT_THRESHOLD,
        smallest_k=smallest_k(subject, train, intervention, beta) if search else None,
        searched=search,
        threshold=COUNT_THRESHOLD,
        unit=intervention.unit,
    )


def smallest_k(
    subject: SubjectModel, train: Split, intervention: Intervention, beta: float
) -> int | None:
    """Smallest k with 90 % of the gain in E_0 on train when only the k largest units are kept.

    Found by bisection on a logarithmic scale, to within 10 %, as if the gain grew with k. None
    where all parameters together gain nothing.
    """
    signs = torch.tensor([beta, -beta])

    def gain(k: int) -> float:
        kept = intervention.keep_largest(k)
        ld = respond(subject, train, kept, signs).ld
        return float(effectiveness(ld[:, 0], ld[:, 1], 0.0)) - train.unsteered_e_0

    enough = intervention.magnitudes().numel()
    target = KEPT_GAIN * gain(enough)
    if not target > 0:
        return None
    too_few = 0
    while enough - too_few > max(1, enough // 10):
        middle = round((max(too_few, 1) * enough) ** 0.5)
        middle = min(max(middle, too_few + 1), enough - 1)
        if gain(middle) >= target:
            enough = middle
        else:
            too_few = middle
    return enough
