"""How far the scores of the preset `methods` agree with exact patching: docs/methods.md's table."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from bench.evaluation.prepare import prepare_task
from bench.evaluation.sparsity import strongest
from bench.matrix.cells import expand
from bench.matrix.config import load_config
from bench.models.load import LoadedModel
from methods.controls import points_that_could_matter
from methods.core.objective import Objective
from methods.core.subject import SubjectModel
from methods.method import Setting

LEFT_OUT = ("captum", "coax", "function_vectors", "hard_concrete", "uniform_gates", "ensemble")
"""Of the untrained ones, what takes long or is made of others."""


def test_agreement_with_patching(smollm2: LoadedModel) -> None:
    matrix = load_config("methods")
    cells = [
        cell
        for cell in expand(matrix, lambda model: "digest", lambda device: "cpu")
        for kind in [type(cell.method.method)]
        if not (kind.trained or kind.control or cell.method.label.startswith(LEFT_OUT))
        and getattr(cell.method.method, "path", "") != "activations"
    ]
    subject = SubjectModel(smollm2.bridge)
    task = prepare_task(cells[0].task, cells[0], smollm2, subject)
    prompts, grid = task.train.prompts, task.grid
    live = points_that_could_matter(prompts, grid)
    exact, taus = None, {}
    for cell in cells:
        method = cell.method.method
        found = method.fit(subject, prompts, grid, Setting(Objective(), 0)).scores.nan_to_num()
        scores = found.cpu() * live
        exact = scores if exact is None else exact  # the preset begins with activ_patch
        a, b = (one[live].double().numpy() for one in (exact, scores))
        sizes = kendalltau(abs(a), abs(b)).statistic
        signed = (kendalltau(a, b).statistic, np.corrcoef(a, b)[0, 1]) if method.signed else None
        shared = int((strongest(exact, 16) & strongest(scores, 16)).sum())
        last = float(found[..., -1].abs().sum() / found.abs().sum())
        of_scores = "" if signed is None else f"tau {signed[0]:.2f}, r {signed[1]:.2f}, "
        print(
            f"\n{cell.method.label}: {of_scores}tau of sizes {sizes:.2f}, shared of 16 {shared}, "
            f"at the last position {last:.2f}"
        )
        taus[cell.method.label] = signed and signed[0]
    assert taus["activ_patch"] == pytest.approx(1)
    assert taus["attr_patch"] > 0.8 > 0.2 > taus["grad_scalar"]
    assert int(live.sum()) == 292
