"""Scalars trained anew at a support: nowhere else, and at supports that match."""

from pathlib import Path

import numpy as np
import torch

from bench.evaluation.prepare import PreparedTask
from bench.evaluation.retrained import matched_supports, retrain
from bench.execution.run import run_matrix
from bench.matrix.stages import Retrained
from methods.core.objective import Objective
from methods.core.subject import SubjectModel
from tests.small import small_matrix

SHAPE = (2, 5, 6)
MATCHED = ("other positions", "other layers")


def test_matched_supports_keep_sites_and_layers_or_sites_and_positions() -> None:
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


def test_where_nothing_else_matches_the_support_stays() -> None:
    chosen = torch.zeros(SHAPE, dtype=torch.bool)
    chosen[0, -1, -1] = True
    for _, _, support in matched_supports(chosen, chosen, draws=2, seed=0):
        assert torch.equal(support, chosen)


def test_training_at_a_support_steers_better_than_nothing(
    prepared: tuple[SubjectModel, PreparedTask],
) -> None:
    subject, task = prepared
    scores = torch.randn(task.grid.shape, generator=torch.Generator().manual_seed(3))
    setting = Retrained(k=[1, 8], draws=2, steps=10, train=2, price=1.0)
    rows, tensors = retrain(subject, task, scores, setting, Objective(), 0, matched=True)
    assert [(row.k, row.support, row.draw) for row in rows[:5]] == [
        (1, "strongest", 0),
        (1, "other positions", 0),
        (1, "other positions", 1),
        (1, "other layers", 0),
        (1, "other layers", 1),
    ]
    assert len(rows) == 10
    assert all(row.E_0_train >= task.train.unsteered_e_0 for row in rows)
    assert rows[5].E_0_train > task.train.unsteered_e_0
    ld = tensors["retrained.ld"]
    expected = (np.minimum(ld[..., 0], 0) + np.minimum(-ld[..., 1], 0)).mean(axis=0)
    np.testing.assert_allclose([row.E_0 for row in rows], expected, atol=1e-6)
    again, _ = retrain(subject, task, scores, setting, Objective(), 0, matched=True)
    assert again == rows


def test_only_shared_random_supports_are_trained_of_controls(
    tiny_folder: Path, tmp_path: Path
) -> None:
    matrix = small_matrix(
        tiny_folder,
        methods=["grad_scalar"],
        controls={"draws": 3, "shuffles": 1, "brief": True},
        retrained={"k": [4], "draws": 2, "steps": 2},
        localisation={"k": [1, 16]},
    )
    outcome = run_matrix(matrix, tmp_path / "run")
    assert not outcome.failed
    for cell_id in outcome.store.ids():
        record = outcome.store.record(cell_id)
        supports = [row.support for row in record.retrained]
        if record.method == "random" and record.draw < 2:
            assert supports == ["strongest"]
        else:
            both = [name for name in MATCHED for _ in range(2)]
            assert supports == ([] if record.control else ["strongest", *both])
        brief = record.control and (record.draw > 0 or record.method != "random")
        assert {row.beta_kind for row in record.metrics} == (
            {"price"} if brief else {"one", "star", "price"}
        )
        assert record.localisation is not None
        assert record.localisation.k == ([16] if brief else [1, 16])
        assert (record.minimality is None) == brief
