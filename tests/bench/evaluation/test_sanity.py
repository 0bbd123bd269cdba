"""Maps that have to change: against weights permuted by hand, and what a cell stores of them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from bench.evaluation.prepare import PreparedTask
from bench.evaluation.sanity import check_sanity, compared, other_answers, thinned
from bench.execution.unchanged import left_unchanged
from bench.matrix.stages import Sanity
from bench.models.load import load_model
from bench.store.sanity_record import SanityRecord, SanityRow
from methods.activ_patch import ActivPatch
from methods.activ_scalar import ActivScalar
from methods.controls import points_that_could_matter
from methods.core.objective import Objective
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.grad_scalar import GradScalar
from methods.method import Attribution, Method, Setting
from tests.small import brief_matrix, planned

AROUND = Setting(Objective(), seed=3)


def plain_map(subject: SubjectModel, task: PreparedTask) -> torch.Tensor:
    """dLD/dh . h at every point of the first train prompt, by autograd on the bridge itself."""
    prompts, grid = task.train.prompts.take([0]), task.grid
    kept = {}
    names = {f"blocks.{n}.hook_{site.value}": (row, n) for n in range(grid.n_layers)
             for row, site in enumerate(grid.sites)}  # fmt: skip

    def keep(h: torch.Tensor, hook: object, at: tuple[int, int]) -> torch.Tensor:
        kept[at] = h.requires_grad_() if h.is_leaf else h
        kept[at].retain_grad()
        return kept[at]

    hooks = [(name, lambda h, hook, at=at: keep(h, hook, at)) for name, at in names.items()]
    with torch.enable_grad(), subject.bridge.hooks(fwd_hooks=hooks):
        embedding = subject.bridge.original_model.get_input_embeddings().weight
        embedding.requires_grad_()
        logits = subject.bridge(prompts.tokens)[0, -1]
        (logits[prompts.answers[0]] - logits[prompts.foils[0]]).backward()
        embedding.requires_grad_(False)
        embedding.grad = None
    scores = torch.zeros(grid.shape)
    for (row, layer), h in kept.items():
        scores[row, layer] = (h * h.grad).sum(-1)[0, list(grid.positions)].detach()
    return scores


def permuted_by_hand(folder: Path, layers: int, seed: int) -> SubjectModel:
    """The model, loaded anew, with the matrices of its last layers written over."""
    subject = SubjectModel(load_model(str(folder), device="cpu", packed=False).bridge)
    generator, written = torch.Generator().manual_seed(seed), 0
    for layer in reversed(range(subject.n_layers - layers, subject.n_layers)):
        for weight in subject.bridge.blocks[layer].parameters():
            if weight.dim() == 2:
                order = torch.randperm(weight.numel(), generator=generator)
                weight.copy_(weight.clone().reshape(-1)[order].reshape(weight.shape))
                written += 1
    assert written
    return subject


def test_maps_are_those_of_weights_permuted_by_hand(
    subject: SubjectModel, task: PreparedTask, tiny_folder: Path
) -> None:
    setting = Sanity(depths=2, prompts=1)
    with left_unchanged(subject, "sanity", checksum=True):
        record, tensors = check_sanity(GradScalar(), subject, task, setting, AROUND)
    maps = torch.from_numpy(tensors["sanity.maps"])
    torch.testing.assert_close(maps[0], plain_map(subject, task), rtol=1e-3, atol=1e-6)
    layers = [row.layers for row in record.rows if row.what == "weights"]
    assert layers[-1] == subject.n_layers
    for at, n in enumerate(layers):
        by_hand = plain_map(permuted_by_hand(tiny_folder, n, AROUND.seed), task)
        torch.testing.assert_close(maps[1 + at], by_hand, rtol=1e-3, atol=1e-6)
    points = points_that_could_matter(task.train.prompts.take([0]), task.grid)
    rho = spearmanr(maps[0][points], maps[len(layers)][points]).statistic
    assert record.deepest is not None
    assert record.deepest.rho == pytest.approx(rho, abs=1e-3)
    assert record.n_points == int(points.sum())


@dataclass(frozen=True)
class Blind(Method):
    """Looks at tokens alone: the same map whatever the model and the question."""

    def fit(
        self, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
    ) -> Attribution:
        generator = torch.Generator().manual_seed(int(prompts.tokens.sum()))
        return Attribution(torch.randn(grid.shape, generator=generator))


def test_a_map_that_looks_at_no_weights_does_not_change(
    subject: SubjectModel, task: PreparedTask
) -> None:
    blind, _ = check_sanity(Blind(), subject, task, Sanity(prompts=2), AROUND)
    assert blind.changes == "no"
    for row in blind.rows:
        assert (row.rho, row.size_rho, row.size) == pytest.approx((1, 1, 1))
        assert row.shared == 1


def test_what_was_trained_is_fitted_to_other_answers_alone(
    subject: SubjectModel, task: PreparedTask
) -> None:
    method, setting = ActivScalar(epochs=2), Sanity(prompts=2, trained=True)
    record, tensors = check_sanity(method, subject, task, setting, AROUND)
    assert [row.what for row in record.rows] == ["answers"]
    asked = other_answers(task.train.prompts, 2)
    assert asked is not None
    expected = method.fit(subject, asked, task.grid, AROUND).scores
    np.testing.assert_array_equal(tensors["sanity.maps"][1], expected.numpy())
    assert not np.array_equal(*tensors["sanity.maps"])


@pytest.mark.parametrize(
    ("rho", "size_rho", "words"),
    [(0.2, 0.1, "yes"), (0.2, 0.6, "in sign alone"), (0.7, 0.1, "no"), (np.nan, 0.1, "undefined")],
)
def test_the_deepest_map_says_whether_it_changes(rho: float, size_rho: float, words: str) -> None:
    rows = [
        SanityRow(what="weights", layers=n, rho=r, size_rho=s, shared=0, size=1)
        for n, r, s in ((4, rho, size_rho), (2, 0.9, 0.9))
    ]
    record = SanityRecord(n_prompts=1, positions=[1], n_points=9, shared_by_chance=1, rows=rows)
    assert record.changes == words
    assert record.model_copy(update={"rows": []}).changes is None


def test_answers_are_those_of_other_prompts_with_other_tokens(task: PreparedTask) -> None:
    prompts = task.train.prompts.take([0, 0, 1, 1])
    prompts = replace(prompts, answers=torch.tensor([1, 2, 1, 5]), foils=torch.tensor([2, 3, 4, 6]))
    found = other_answers(prompts, 3)
    assert found is not None
    assert found.answers.tolist() == [5, 1, 5]
    assert found.foils.tolist() == [6, 4, 6]
    assert torch.equal(found.tokens, prompts.tokens[:3])
    assert other_answers(prompts.take([0, 1]), 1) is None


def test_maps_that_share_their_largest_points_share_them_whatever_the_sign() -> None:
    own = torch.linspace(-1, 2, 60).view(1, 6, 10)
    points = torch.ones_like(own, dtype=torch.bool)
    found = compared(own, -2 * own, points, seed=0)
    assert found == pytest.approx({"rho": -1, "size_rho": 1, "shared": 1, "size": 2})
    undefined = compared(own, torch.full_like(own, torch.nan), points, seed=0)
    assert np.isnan([*undefined.values()]).all()
    assert np.isnan(compared(own, torch.ones_like(own), points, seed=0)["rho"])


def test_what_runs_every_point_is_fitted_at_some_positions(
    subject: SubjectModel, task: PreparedTask
) -> None:
    prompts = task.train.prompts.take([0])
    grid = thinned(task.grid, prompts, 3)
    differ = (prompts.tokens != prompts.corrupted)[0].nonzero()[0, 0]
    assert len(grid.positions) == 3
    assert (grid.positions[0], grid.positions[-1]) == (differ, task.grid.positions[-1])
    setting = Sanity(depths=1, prompts=1, positions=3)
    record, tensors = check_sanity(ActivPatch(), subject, task, setting, AROUND)
    assert record.positions == list(grid.positions)
    whole = ActivPatch().fit(subject, prompts, task.grid, AROUND).scores
    at = [task.grid.positions.index(position) for position in grid.positions]
    np.testing.assert_allclose(tensors["sanity.maps"][0], whole[..., at].cpu(), atol=1e-5)


def test_what_is_trained_is_another_cell_only_where_it_is_fitted_again_too() -> None:
    changes: list[dict[str, Any]] = [{}, {"sanity": {}}, {"sanity": {"trained": True}}]
    plain, checked, again = (
        [cell.id for cell in planned(brief_matrix("m", methods=["activ_scalar"], **change))]
        for change in changes
    )
    assert plain == checked
    assert plain[0] != again[0]
