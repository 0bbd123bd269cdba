"""What the few strongest points do, as they are and trained anew; and points that match them."""

import numpy as np
import pytest
import torch

from bench.evaluation.beta import tune_beta
from bench.evaluation.evaluate import metric_row
from bench.evaluation.prepare import PreparedTask
from bench.evaluation.retrained import matched_supports, retrain
from bench.evaluation.sparsity import area, sizes, sparsity_curve, strongest
from bench.evaluation.split import respond
from bench.matrix.stages import Retrained
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from methods.core.subject import SubjectModel

SHAPE = (2, 5, 6)


def test_one_point_is_the_scaling_of_that_point_alone(
    subject: SubjectModel, task: PreparedTask
) -> None:
    scores = torch.randn(task.grid.shape, generator=torch.Generator().manual_seed(0))
    scores[1, 0, 2] = -9.0
    objective = Objective()
    test = task.splits["test"]
    full = StaticScaling.from_scores(task.grid, scores)
    curve, _ = sparsity_curve(subject, task, full, scores, objective, 3)
    alone = torch.zeros(task.grid.shape)
    alone[1, 0, 2] = -1.0
    single = StaticScaling(task.grid, alone)
    tuned = tune_beta(subject, task.train, single, objective)
    response = respond(subject, test, single, torch.tensor([tuned.star, -tuned.star]))
    row = metric_row(test, response, single, objective, "star", tuned.star)
    assert curve.k[0] == 1
    assert curve.beta[0] == pytest.approx(tuned.star)
    assert curve.E_0[0] == pytest.approx(row.E_0, abs=1e-5)


def interventions(task: PreparedTask, width: int) -> list[Intervention]:
    generator = torch.Generator().manual_seed(1)
    shape = task.grid.shape
    return [
        StaticScaling(task.grid, torch.randn(shape, generator=generator)),
        SteeringVectors(task.grid, torch.randn((*shape, width), generator=generator)),
        DynamicScaling(task.grid, torch.randn((*shape[:2], width), generator=generator)),
    ]


@pytest.mark.parametrize("which", range(3))
def test_only_the_chosen_points_act(subject: SubjectModel, task: PreparedTask, which: int) -> None:
    full = interventions(task, subject.d_model)[which]
    beta = torch.full((len(task.train.prompts),), 0.7)
    keep = torch.zeros(task.grid.shape, dtype=torch.bool)
    tokens = task.train.prompts.tokens

    def logits(keep: torch.Tensor) -> torch.Tensor:
        return subject.logits(tokens, full.at_points(keep).at(beta))

    unsteered = subject.unsteered_logits(tokens)
    torch.testing.assert_close(logits(keep), unsteered, rtol=0, atol=0)
    torch.testing.assert_close(logits(~keep), subject.logits(tokens, full.at(beta)), rtol=0, atol=0)
    keep[0, 1, -1] = True
    edited: list[tuple[str, int]] = []
    bound = full.at_points(keep).at(beta)
    for site, layer in bound.points:
        h = torch.randn(len(beta), tokens.shape[1], subject.d_model)
        changed = (bound(site, layer, h) != h).any(dim=-1)
        if changed.any():
            edited.append((site.value, layer))
            assert changed[:, -1].all()
            assert not changed[:, :-1].any()
    assert edited == [(task.grid.sites[0].value, 1)]
    assert full.included.all()  # the original is left as it was


def test_the_strongest_are_the_largest_in_size() -> None:
    scores = torch.tensor([[[0.5, -3.0], [torch.nan, 0.5]]])
    assert strongest(scores, 1).tolist() == [[[False, True], [False, False]]]
    assert strongest(scores, 2).tolist() == [[[True, True], [False, False]]]
    assert strongest(scores, 3).tolist() == [[[True, True], [False, True]]]


def test_sizes_and_area() -> None:
    assert sizes(1000, 4) == [1, 10, 100, 1000]
    assert sizes(2, 12) == [1, 2]
    assert area([1, 10, 100], [-2.0, -1.0, 0.0]) == pytest.approx(-1.0)
    assert area([1, 100], [-2.0, -2.0]) == pytest.approx(-2.0)
    assert area([1], [-0.5]) == -0.5


def test_matched_supports_keep_sites_and_layers_or_positions_and_else_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(SHAPE, generator=generator) > 0.8
    allowed = torch.ones(SHAPE, dtype=torch.bool)
    allowed[:, :, 0] = False
    kept = {"other positions": 2, "other layers": 1}  # the axis that is drawn along
    seen = set()
    for name, _, support in matched_supports(chosen, allowed, draws=4, seed=1):
        assert torch.equal(support.sum(kept[name]), chosen.sum(kept[name]))
        assert not (support & ~allowed & ~chosen).any()
        seen.add(tuple(support.flatten().tolist()))
    assert len(seen) == 8
    assert tuple(chosen.flatten().tolist()) not in seen
    chosen = torch.zeros(SHAPE, dtype=torch.bool)
    chosen[0, -1, -1] = True
    for _, _, support in matched_supports(chosen, chosen, draws=2, seed=0):
        assert torch.equal(support, chosen)


def test_training_at_a_support_steers_better_than_nothing(
    subject: SubjectModel,
    task: PreparedTask,
) -> None:
    scores = torch.randn(task.grid.shape, generator=torch.Generator().manual_seed(3))
    setting = Retrained(k=[1, 8], draws=2, steps=6, train=2, price=1.0)
    rows, tensors = retrain(subject, task, scores, setting, Objective(), 0, matched=True)
    drawn = [(name, draw) for name in ("other positions", "other layers") for draw in (0, 1)]
    assert [(row.k, row.support, row.draw) for row in rows] == [
        (k, *one) for k in (1, 8) for one in [("strongest", 0), *drawn]
    ]
    assert all(row.E_0_train >= task.train.unsteered_e_0 for row in rows)
    assert rows[5].E_0_train > task.train.unsteered_e_0
    ld = tensors["retrained.ld"]
    expected = (np.minimum(ld[..., 0], 0) + np.minimum(-ld[..., 1], 0)).mean(axis=0)
    np.testing.assert_allclose([row.E_0 for row in rows], expected, atol=1e-6)
    setting = setting.model_copy(update={"k": [1]})
    assert retrain(subject, task, scores, setting, Objective(), 0, matched=True)[0] == rows[:5]
