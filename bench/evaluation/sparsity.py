"""Sparsity curves: how well a method steers when only its strongest points are left.

For every k of a logarithmic grid the intervention acts at the k points of largest |score| alone;
its strength beta is tuned again on the train split, and E_0 and F are measured on the test split.
The curve says how good the localisation is at every level of minimality, whatever the scale of the
scores. That holds for trained methods too: what they have trained is kept at those points and its
strength tuned as if it were a score, so that all methods answer the same question. k counts points
for every method, also where a parameter is shared by several (dynamic scalars).

The cost is one tuning of beta a size: about 22 forward rows a train prompt and 2 a test prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bench.evaluation.beta import BetaTuning, tune_beta
from bench.evaluation.prepare import PreparedTask
from bench.evaluation.split import respond
from bench.store.cells import Tensors
from bench.store.records import SparsityRecord
from methods.core.intervention import Intervention
from methods.core.objective import Objective, effectiveness, faithfulness
from methods.core.subject import SubjectModel


def sizes(n_points: int, count: int) -> list[int]:
    """At most `count` whole numbers from 1 to `n_points`, evenly spaced in log k."""
    return sorted({round(float(k)) for k in np.geomspace(1, n_points, count)})


def strongest(
    scores: Float[Tensor, "place layer position"], k: int, seed: int | None = None
) -> Bool[Tensor, "place layer position"]:
    """True at the k points of largest |score|; NaN (left out) last.

    Args:
        scores: NaN at points that are left out.
        k: how many.
        seed: decides between points of equal score; without one the first are taken.
    """
    size = scores.abs().nan_to_num(nan=-1.0).flatten()
    order = torch.arange(len(size))
    if seed is not None:
        order = torch.randperm(len(size), generator=torch.Generator().manual_seed(seed))
    keep = torch.zeros_like(size, dtype=torch.bool)
    keep[order[size[order].argsort(descending=True, stable=True)[:k]]] = True
    return keep.view(scores.shape)


def sparsity_curve(
    subject: SubjectModel,
    task: PreparedTask,
    intervention: Intervention,
    scores: Float[Tensor, "place layer position"],
    objective: Objective,
    count: int,
    of_all: BetaTuning | None = None,
) -> tuple[SparsityRecord, Tensors]:
    """Measures the curve at `count` sizes.

    Args:
        subject: the model.
        task: beta is tuned on its train split; E_0 and F are measured on its test split.
        intervention: activation scalars made from the scores, or what the method trained.
        scores: whose size ranks the points.
        objective: margin and weights of the cell, for tuning beta.
        count: sizes; fewer where the grid has fewer points.
        of_all: the tuning of all points, where there was one.

    Returns:
        The curve, and per test prompt `sparsity.ld` and `sparsity.kl` (prompt, size, sign) at
        +beta and -beta of each size.
    """
    train, test = task.train, task.splits["test"]
    grid = intervention.grid
    ks = sizes(grid.n_points, count)
    star, e_0_train = [], []
    ld, kl = [], []
    for k in ks:
        kept = intervention.at_points(strongest(scores, k)).to(subject.device)
        tuned = of_all if of_all and k == grid.n_points else None
        tuned = tuned or tune_beta(subject, train, kept, objective)
        plus, minus = (tuned.response.ld[:, tuned.response.at(s * tuned.star)] for s in (1, -1))
        star.append(tuned.star)
        e_0_train.append(float(effectiveness(plus, minus, 0.0)))
        response = respond(subject, test, kept, torch.tensor([tuned.star, -tuned.star]))
        ld.append(response.ld)
        kl.append(response.kl)
    all_ld, all_kl = torch.stack(ld), torch.stack(kl)
    e_0 = effectiveness(all_ld[..., 0], all_ld[..., 1], 0.0).tolist()
    record = SparsityRecord(
        split=test.name,
        k=ks,
        beta=star,
        E_0=e_0,
        F=faithfulness(all_kl[..., 0], all_kl[..., 1]).tolist(),
        E_0_train=e_0_train,
        area=area(ks, e_0),
    )
    stored = {"sparsity.ld": all_ld, "sparsity.kl": all_kl}
    return record, {name: values.movedim(0, 1).numpy() for name, values in stored.items()}


def area(x: Sequence[float], values: Sequence[float]) -> float:
    """`values` averaged over log x (trapezoids): the area under the curve over its width."""
    if len(x) == 1:
        return values[0]
    log_x = np.log(x)
    return float(np.trapezoid(values, log_x) / (log_x[-1] - log_x[0]))
