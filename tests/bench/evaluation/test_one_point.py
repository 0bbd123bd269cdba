"""One-point steering: responses against a plain loop, R^2 in closed form, and the stage."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.conformance.small import grid_on, tiny_prompts, tiny_subject
from bench.evaluation.one_point import cross_validated, one_point_steering, responses
from bench.evaluation.prepare import PreparedTask
from bench.matrix.stages import OnePoint
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError
from tests.bench.evaluation.test_elsewhere import plain_logits


@pytest.mark.parametrize("beta", [-1.0, 0.5])
def test_responses_are_those_of_plain_hooks_at_one_point_after_the_other(beta: float) -> None:
    prompts, subject = tiny_prompts(), tiny_subject("llama")
    grid = grid_on(subject, ["attn_out", "mlp_out"], has_bos=False)
    found = responses(subject, prompts, grid, beta)
    plain = prompts.logit_difference(subject.unsteered_logits(prompts.tokens))
    for point in np.ndindex(grid.shape):
        alone = torch.zeros(grid.shape)
        alone[point] = 1.0
        logits = plain_logits(subject, prompts.tokens, StaticScaling(grid, alone), beta)
        expected = prompts.logit_difference(logits) - plain
        torch.testing.assert_close(found[:, *point], expected, atol=1e-4, rtol=1e-4)


def test_r2_has_its_closed_form_where_prompts_agree() -> None:
    generator = np.random.default_rng(0)
    groups, scores = np.repeat([0, 1, 2], 20), generator.random(60)
    response = np.array([2.0, 5.0, 9.0])[groups] + 3 * scores
    fit = cross_validated(1.0, np.stack([response] * 4), scores, groups)
    centred = scores.reshape(3, 20) - scores.reshape(3, 20).mean(axis=1, keepdims=True)
    between = 1 - 9 * (centred**2).sum() / ((response - response.mean()) ** 2).sum()
    assert fit.r2 == pytest.approx(1)
    assert fit.r2_site_layer == pytest.approx(between)
    assert fit.gain == pytest.approx(1 - between)
    assert np.mean(fit.gains) == pytest.approx(fit.gain)
    one_group = cross_validated(1.0, np.stack([response] * 2), scores, np.zeros(60, dtype=int))
    assert one_group.r2_site_layer == pytest.approx(0)
    assert one_group.r2 == pytest.approx(np.corrcoef(scores, response)[0, 1] ** 2)


def test_what_site_and_layer_say_already_is_no_gain_and_noise_is_less() -> None:
    generator = np.random.default_rng(1)
    groups = np.repeat([0, 1, 2, 3], 10)
    response = generator.random((5, 40)) + groups
    assert cross_validated(0.5, response, groups * 1.5, groups).gain == 0
    gains = [cross_validated(0.5, response, generator.random(40), groups).gain for _ in range(200)]
    assert np.mean(gains) < 0
    nothing = cross_validated(0.5, np.zeros((3, 40)), generator.random(40), groups)
    assert np.isnan([nothing.r2, nothing.gain, *nothing.gains]).all()


def test_the_stage_counts_its_runs_in_every_cell_and_refuses_what_it_cannot_do(
    subject: SubjectModel,
    task: PreparedTask,
) -> None:
    scores = torch.randn(task.grid.shape, generator=torch.Generator().manual_seed(2))
    counts, found = [], []
    for _ in range(2):
        before = subject.passes.forward
        found.append(one_point_steering(subject, task, scores, OnePoint(prompts=3)))
        counts.append(subject.passes.forward - before)
    assert counts[0] == counts[1] > 0
    assert found[0][0] == found[1][0]
    change = found[0][1]["one_point.change"]
    assert change.shape == (4, *task.grid.shape)
    one = {**task.splits, "test": task.splits["test"].take([0])}
    with pytest.raises(UserInputError, match="one_point: this task has one test prompt"):
        one_point_steering(subject, replace(task, splits=one), scores, OnePoint())
