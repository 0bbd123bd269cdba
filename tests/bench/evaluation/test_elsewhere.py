"""What interventions do elsewhere, where they should do nothing and where they are taken."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.evaluation.prepare import PreparedTask, prepare_task
from bench.evaluation.specificity import NEUTRAL, measure_specificity, neutral_windows, placed
from bench.evaluation.split import respond
from bench.evaluation.transfer import TIED, evaluate_elsewhere
from bench.matrix.stages import Specificity
from bench.models.load import LoadedModel
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.hidden_scaling import HiddenScaling
from methods.core.objective import Objective
from methods.core.points import PointGrid
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from tests.small import planned, small_matrix

BETA = 0.7


def scaling(grid: PointGrid, seed: int = 0) -> StaticScaling:
    return StaticScaling(
        grid, torch.randn(grid.shape, generator=torch.Generator().manual_seed(seed))
    )


@pytest.fixture(scope="module")
def other(
    subject: SubjectModel, task: PreparedTask, tiny: LoadedModel, tiny_folder: Path
) -> PreparedTask:
    """A task whose prompts have another length."""
    cell = planned(small_matrix(tiny_folder, tasks=["ccc"]))[0]
    found = prepare_task(cell.task, cell, tiny, subject)
    assert found.grid.n_positions != task.grid.n_positions
    return found


def plain_logits(
    subject: SubjectModel, tokens: Tensor, scalars: StaticScaling, beta: float
) -> Tensor:
    """Logits at the answer position, every point counted from there, by hooks of the bridge."""
    grid, length = scalars.grid, tokens.shape[1]

    def hook(h: Tensor, hook: object, row: int, layer: int) -> Tensor:
        h = h.clone()
        for column, position in enumerate(grid.positions):
            at = position - grid.n_positions + length
            if at >= int(grid.has_bos):
                h[:, at] *= 1 + beta * float(scalars.alpha[row, layer, column])
        return h

    hooks = [
        (f"blocks.{layer}.hook_{site.value}", partial(hook, row=row, layer=layer))
        for layer in range(grid.n_layers)
        for row, site in enumerate(grid.sites)
    ]
    with torch.no_grad(), subject.bridge.hooks(fwd_hooks=hooks):
        found: Tensor = subject.bridge(tokens)[:, -1]
    return found


@pytest.mark.parametrize("home", ["longer", "shorter"])
def test_numbers_are_those_of_plain_hooks(
    subject: SubjectModel, task: PreparedTask, tiny: LoadedModel, other: PreparedTask, home: str
) -> None:
    named = [("one", task), ("two", other)]
    tasks = dict(sorted(named, key=lambda one: one[1].grid.n_positions, reverse=home == "longer"))
    own, away = tasks
    scalars = scaling(tasks[own].grid)
    setting = Specificity(prompts=2, windows=3)
    record, tensors = measure_specificity(subject, tiny, tasks, scalars, BETA, setting)
    assert [(row.where, row.kind) for row in record.rows] == [
        (own, "own"),
        (away, "task"),
        (NEUTRAL, "neutral"),
    ]
    of_own = tasks[own].splits["test"].prompts.take([0, 1])
    prompts = {
        own: of_own,
        away: tasks[away].splits["test"].prompts.take([0, 1]),
        NEUTRAL: neutral_windows(tiny, of_own, 3),
    }
    for row in record.rows:
        asked = prompts[row.where]
        before = plain_logits(subject, asked.tokens, scalars, 0.0)
        ld = [asked.logit_difference(before)]
        kl = []
        for sign in (1, -1):
            logits = plain_logits(subject, asked.tokens, scalars, sign * BETA)
            ld.insert(-1, asked.logit_difference(logits))
            p, q = (torch.log_softmax(one, -1) for one in (logits, before))
            kl.append((p.exp() * (p - q)).sum(-1))
        expected = torch.stack(ld, 1)
        np.testing.assert_allclose(tensors[f"specificity.{row.where}.ld"], expected, atol=2e-4)
        change = (expected[:, :2] - expected[:, 2:]).abs().mean()
        assert row.ld_change == pytest.approx(float(change), rel=1e-2, abs=1e-4)
        assert row.kl == pytest.approx(float(torch.stack(kl).mean()), rel=1e-2, abs=1e-5)
        assert row.kl > 0
    assert [row.moved for row in record.rows][::2] == [1, 1]
    lengths = [tasks[name].grid.n_positions for name in (own, away)]
    bos = int(tasks[own].grid.has_bos)
    room = min(1.0, (lengths[1] - bos) / (lengths[0] - bos))
    assert record.rows[1].moved == pytest.approx(room)


def test_prompts_of_several_lengths_are_steered_as_each_alone(
    subject: SubjectModel, task: PreparedTask, other: PreparedTask
) -> None:
    scalars = scaling(other.grid)
    whole = task.splits["test"].prompts.take([0, 1])
    padding = torch.full((2, 2), -1)
    mask = torch.ones((2, whole.n_positions + 2), dtype=torch.bool)
    mask[:, :2] = False
    padded = replace(whole, tokens=torch.cat([padding, whole.tokens], 1), mask=mask)
    beta = torch.full((2,), BETA)
    alone, padded_too = (
        subject.logits(one.tokens, placed(scalars, task.grid, one, beta)[0], mask=one.mask)
        for one in (whole, replace(padded, has_bos=whole.has_bos))
    )
    torch.testing.assert_close(alone, padded_too, rtol=1e-3, atol=1e-4)


def test_what_fits_any_length_acts_everywhere(
    subject: SubjectModel, task: PreparedTask, other: PreparedTask
) -> None:
    gates = torch.randn((len(task.grid.places), task.grid.n_layers, subject.d_model))
    prompts = other.splits["test"].prompts
    edit, moved = placed(
        DynamicScaling(task.grid, gates), other.grid, prompts, torch.ones(len(prompts))
    )
    expected = DynamicScaling(other.grid, gates).at(torch.ones(len(prompts)), 0, prompts.first)
    with torch.no_grad():
        found, wanted = (subject.logits(prompts.tokens, one) for one in (edit, expected))
    assert torch.equal(found, wanted)
    assert bool((moved == 1).all())


@pytest.mark.parametrize("units", [None, 2])
def test_at_home_the_numbers_are_those_of_the_test_split(
    units: int | None, subject: SubjectModel, task: PreparedTask
) -> None:
    grid = task.grid
    generator = torch.Generator().manual_seed(0)
    gates = torch.randn((len(grid.places), grid.n_layers, subject.d_model), generator=generator)
    dynamic = DynamicScaling(grid, gates)
    if units:
        wide, outer = (
            gates[:, :, None].repeat(1, 1, units, 1),
            torch.ones((*gates.shape[:2], units)),
        )
        dynamic = HiddenScaling(grid, wide, outer, activation="tanh")
    found = evaluate_elsewhere(subject, dynamic, {"again": task}, Objective())
    test = task.splits["test"]
    expected = respond(subject, test, dynamic, torch.tensor([0.0, 1.0, -1.0]))
    np.testing.assert_array_equal(found.tensors["split.again.ld"], expected.ld.numpy())
    assert found.tensors["transfer.again.scalars"].any()
    static = StaticScaling(grid, torch.zeros(grid.shape))
    assert evaluate_elsewhere(subject, static, {"again": task}, Objective()).notes == [TIED]
