"""Support retrained: do the places that a method names steer better than others, trained alike?

Optimal edits at random places steer as well as at localised ones (Wang and Veitch 2025, arXiv
2502.11447). Scores at random places do not test that, since nobody trained them there. Here
activation scalars are trained anew at a method's k strongest points alone, and with the same steps
at matched supports:

- `other positions`: as many points of every site and layer, at random positions. A method that
  steers better localises in position.
- `other layers`: as many points of every site and position, in random layers. A method that steers
  better localises in layer.

Random supports are the strongest points of the control Random, and shared by all methods. All are
compared on test at one price (`bench.evaluation.price`), at strengths chosen on train.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bench.evaluation.prepare import PreparedTask
from bench.evaluation.price import PriceSearch
from bench.evaluation.sparsity import strongest
from bench.evaluation.split import Split, respond
from bench.matrix.stages import Retrained
from bench.store.cells import Tensors
from bench.store.records import RetrainedRow
from methods.controls import points_that_could_matter
from methods.core.objective import Objective, effectiveness, faithfulness
from methods.core.points import PointGrid
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.core.training import initial, train

LEARNING_RATE = 1e-1
"""Adam's: ten steps reach a scalar of 1."""
DEVIATION = 1e-5
"""Standard deviation of the scalars before training."""
Support = Bool[Tensor, "place layer position"]


def retrain(
    subject: SubjectModel,
    task: PreparedTask,
    scores: Float[Tensor, "place layer position"],
    setting: Retrained,
    objective: Objective,
    seed: int,
    matched: bool,
) -> tuple[list[RetrainedRow], Tensors]:
    """Trains scalars at the k strongest points and at supports that are matched to them.

    Args:
        subject: the model.
        task: scalars are trained on its first train prompts, strengths chosen on all of them, and
            E_0 measured on its test split.
        scores: whose size ranks the points; NaN at points that are left out.
        setting: k, draws of each matched kind, steps, prompts to train on, and the price.
        objective: what is maximised; M_1 counts the support alone.
        seed: of draws, ties, and of the scalars before training.
        matched: train at matched supports too.

    Returns:
        A row a k and support, and per test prompt `retrained.ld` and `retrained.kl` (prompt, row,
        sign) at +beta and -beta.
    """
    test = task.splits["test"]
    few = task.train.take(range(min(setting.train, len(task.train.prompts))))
    allowed = points_that_could_matter(task.train.prompts, task.grid)
    rows, ld, kl = [], [], []
    for k in setting.k:
        chosen = strongest(scores, k, seed) & task.grid.included
        supports = [("strongest", 0, chosen)]
        supports += matched_supports(chosen, allowed, setting.draws, seed) if matched else ()
        for kind, draw, support in supports:
            scaling = _trained_at(subject, few, task.grid, support, setting.steps, objective, seed)
            search = PriceSearch(subject, task.train, scaling, both_signs=False)
            strength = search.at(setting.price)
            signs = torch.tensor([strength.beta, -strength.beta])
            response = respond(subject, test, scaling, signs)
            plus, minus = response.ld.T
            rows.append(
                RetrainedRow(
                    k=k,
                    support=kind,
                    draw=draw,
                    price=setting.price,
                    beta=strength.beta,
                    E_0=float(effectiveness(plus, minus, 0.0)),
                    paid=-float(faithfulness(*response.kl.T)),
                    E_0_train=strength.E_0,
                    paid_train=strength.paid,
                )
            )
            ld.append(response.ld)
            kl.append(response.kl)
    stored = {"retrained.ld": torch.stack(ld, 1), "retrained.kl": torch.stack(kl, 1)}
    return rows, {name: values.numpy() for name, values in stored.items()}


def _trained_at(
    subject: SubjectModel,
    few: Split,
    grid: PointGrid,
    support: Support,
    steps: int,
    objective: Objective,
    seed: int,
) -> StaticScaling:
    """Activation scalars trained at the points of a support alone."""
    with torch.inference_mode(False):
        start = StaticScaling(grid, initial(grid.shape, DEVIATION, seed)).to(subject.device)
        scaling = start.at_points(support).requires_grad_()
        train(
            subject,
            scaling,
            few.prompts,
            objective,
            learning_rate=LEARNING_RATE,
            epochs=steps,
            batch_size=None,
            seed=seed,
        )
    return scaling.requires_grad_(False)


def matched_supports(
    chosen: Support, allowed: Support, draws: int, seed: int
) -> Iterator[tuple[str, int, Support]]:
    """Supports with as many points a site and layer, and a site and position, drawn at random.

    Args:
        chosen: the support to match.
        allowed: points to draw from; where too few of them match, points of `chosen` stay.
        draws: how many of each kind.
        seed: of the draws.
    """
    for kind, name in enumerate(("other positions", "other layers")):
        for draw in range(draws):
            generator = torch.Generator().manual_seed(1_000_003 * seed + 1_009 * draw + kind)
            if name == "other positions":
                yield name, draw, _redrawn(chosen, allowed, generator)
            else:
                turned = chosen.transpose(1, 2), allowed.transpose(1, 2)
                yield name, draw, _redrawn(turned[0], turned[1], generator).transpose(1, 2)


def _redrawn(
    chosen: Bool[Tensor, "place kept drawn"],
    allowed: Bool[Tensor, "place kept drawn"],
    generator: torch.Generator,
) -> Bool[Tensor, "place kept drawn"]:
    """As many points along the last axis as `chosen` has, at random among the allowed ones."""
    found = torch.zeros_like(chosen)
    counts = Counter((place, kept) for place, kept, _ in chosen.nonzero().tolist())
    for (place, kept), number in counts.items():
        candidates = allowed[place, kept].nonzero()[:, 0]
        own = chosen[place, kept].nonzero()[:, 0]
        order = torch.randperm(len(candidates), generator=generator)
        drawn = candidates[order][:number]
        rest = own[~torch.isin(own, drawn)][: number - len(drawn)]
        found[place, kept, torch.cat([drawn, rest])] = True
    return found
