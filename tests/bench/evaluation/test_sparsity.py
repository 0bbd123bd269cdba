"""Sparsity curves: each end of the curve is something that can be had in another way too."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.evaluation.beta import tune_beta
from bench.evaluation.evaluate import metric_row
from bench.evaluation.prepare import PreparedTask
from bench.evaluation.sparsity import area, sizes, sparsity_curve, strongest
from bench.evaluation.split import respond
from bench.execution.estimate import estimated_rows
from bench.execution.run import run_matrix
from bench.matrix.cells import expand
from bench.store.cells import Cell
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from methods.core.subject import SubjectModel
from tests.small import brief_matrix

Prepared = tuple[SubjectModel, PreparedTask]
TRAINED = [{"name": name, "epochs": 2} for name in ("activ_scalar", "steer_vec", "dyn_scalar")]


@pytest.fixture(scope="module")
def cells(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cell]:
    matrix = brief_matrix(
        tiny_folder, methods=["grad_scalar", *TRAINED], sparsity={"points": 4}, positions="last"
    )
    outcome = run_matrix(matrix, tmp_path_factory.mktemp("runs") / "run")
    assert not outcome.failed
    found = [outcome.store.read(cell_id) for cell_id in outcome.store.ids()]
    return {cell.record.settings["method"]["name"]: cell for cell in found}


def test_every_cell_has_its_curve_and_what_it_is_made_of(cells: dict[str, Cell]) -> None:
    assert {"random", "shuffled"} <= set(cells)
    for cell in cells.values():
        curve = cell.record.sparsity
        assert curve is not None
        assert cell.record.grid is not None
        points = len(cell.record.grid.places) * cell.record.grid.n_layers
        assert curve.k == sizes(points, 4)
        ld, kl = cell.tensors["sparsity.ld"], cell.tensors["sparsity.kl"]
        assert ld.shape == kl.shape == (3, len(curve.k), 2)
        expected = np.minimum(ld[..., 0], 0) + np.minimum(-ld[..., 1], 0)
        np.testing.assert_allclose(curve.E_0, expected.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(curve.F, -kl.sum(axis=-1).mean(axis=0), rtol=1e-5)
        assert curve.area == area(curve.k, curve.E_0)
        assert cell.record.provenance["seconds"]["sparsity"] > 0


def test_all_points_of_a_score_are_the_evaluation_at_beta_star(cells: dict[str, Cell]) -> None:
    for name in ("grad_scalar", "random"):
        record = cells[name].record
        assert record.sparsity is not None
        assert record.beta is not None
        row = next(r for r in record.metrics if (r.split, r.beta_kind) == ("test", "star"))
        assert record.sparsity.beta[-1] == record.beta.star
        assert record.sparsity.E_0[-1] == pytest.approx(row.E_0, abs=1e-5)
        assert record.sparsity.F[-1] == pytest.approx(row.F, abs=1e-5)


def test_one_point_is_the_scaling_of_that_point_alone(prepared: Prepared) -> None:
    subject, task = prepared
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
def test_only_the_chosen_points_act(prepared: Prepared, which: int) -> None:
    subject, task = prepared
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


def test_off_costs_nothing_and_leaves_cells_what_they_were(tiny_folder: Path) -> None:
    def plan(**changes: object) -> list[tuple[str, float]]:
        matrix = brief_matrix(tiny_folder, **changes)
        found = expand(matrix, lambda name: "digest", lambda device: "cpu")
        return [*estimated_rows(found).items()]

    assert plan() == plan(sparsity={"points": 0})
    for (off, rows), (on, more) in zip(plan(), plan(sparsity={"points": 5}), strict=True):
        assert off != on
        assert more > rows
