"""Circuit faithfulness of stored cells: recomputed from what they store, and its areas by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.evaluation import circuit
from bench.evaluation.circuit import SHARES, highest, measure_circuits
from bench.evaluation.prepare import PreparedTask, prepare_task
from bench.matrix.stages import Circuit
from bench.models.load import LoadedModel
from methods.core.circuits import CircuitRuns, node_scores
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError
from tests.small import brief_matrix, planned


def test_f_is_a_ratio_of_means_between_the_two_runs(
    subject: SubjectModel, task: PreparedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit, "LEAST_GAP", 0)  # a random model's two runs may be near
    scores = torch.randn(task.grid.shape, generator=torch.Generator().manual_seed(1))
    record, tensors = measure_circuits(subject, task, scores, Circuit(draws=30, share=0.5), 0)
    of_nodes = node_scores(task.grid, scores)
    runs = CircuitRuns(subject, task.splits["test"].prompts, task.grid)
    assert record.n_nodes == of_nodes.numel()
    assert record.k == [int(share * record.n_nodes) for share in SHARES]
    clean, corrupted = tensors["circuit.clean"].mean(), tensors["circuit.corrupted"].mean()
    assert clean != corrupted
    for place, curve in enumerate(record.curves):
        assert curve.f[-1] == pytest.approx(1, abs=1e-4)
        assert curve.f[0] == pytest.approx(0, abs=1e-4)
        assert (curve.f_without[0], curve.f_without[-1]) == pytest.approx((1, 0), abs=1e-4)
        means = tensors["circuit.ld"].mean(axis=0)[place]
        np.testing.assert_allclose(
            [curve.f, curve.f_without], (means - corrupted) / (clean - corrupted), atol=1e-5
        )
        kept = highest(of_nodes, record.k[-2], curve.order, 0)
        ranked = (of_nodes.abs() if curve.order == "absolute" else of_nodes).clone()
        assert ranked[kept].min() >= ranked[~kept].max()
        ld = runs.logit_differences(kept[None]).mean()
        assert curve.f[-2] == pytest.approx(float(ld - corrupted) / (clean - corrupted), abs=1e-4)
        trapezoids = [
            (b - a) * (u + v) / 2
            for a, b, u, v in zip(SHARES, SHARES[1:], curve.f, curve.f[1:], strict=False)
        ]
        assert pytest.approx(sum(trapezoids)) == curve.CPR
        away = [abs(1 - f) for f in curve.f]
        assert pytest.approx(np.trapezoid(away, SHARES)) == curve.CMD
        assert curve.sufficient is not None
        assert 0 <= curve.sufficient <= 30


def test_runs_that_are_too_near_leave_f_undefined(
    subject: SubjectModel, task: PreparedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit, "LEAST_GAP", 1e6)
    record, _ = measure_circuits(subject, task, torch.ones(task.grid.shape), Circuit(), 0)
    for curve in record.curves:
        assert np.isnan([*curve.f, *curve.f_without, curve.CPR, curve.CMD, curve.CMD_log]).all()
        assert curve.sufficient is None
    assert np.isfinite([record.ld_clean, record.ld_corrupted]).all()


def test_random_circuits_are_drawn_once_a_task_and_counted_in_every_cell(
    subject: SubjectModel,
    task: PreparedTask,
) -> None:
    scores = torch.randn(task.grid.shape, generator=torch.Generator().manual_seed(2))
    setting, counts, records = Circuit(draws=3), [], []
    for _ in range(2):
        before = subject.passes.forward
        records.append(measure_circuits(subject, task, scores, setting, 5)[0])
        counts.append(subject.passes.forward - before)
    assert counts[0] == counts[1]
    assert records[0] == records[1]


def test_sites_without_nodes_fail_in_words(
    subject: SubjectModel, tiny: LoadedModel, tiny_folder: Path
) -> None:
    cell = planned(brief_matrix(tiny_folder, sites=["resid_post"]))[0]
    task = prepare_task(cell.task, cell, tiny, subject)
    with pytest.raises(UserInputError, match="nodes are mlp_out and one of z, o, attn_out"):
        measure_circuits(subject, task, torch.ones(task.grid.shape), Circuit(), 0)
