"""What methods find of planted circuits, and how it is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from bench.evaluation.finding import (
    auroc,
    average_precision,
    chance_among_strongest,
    find,
    labels_of,
)
from bench.models.bridge import boot_bridge, quiet_transformers
from bench.models.planted.model import PlantedModel, build_planted
from bench.models.planted.wiring import D_HEAD, D_MODEL, N_HEADS
from bench.store.records import FindingRecord
from methods.activ_patch import ActivPatch
from methods.attr_patch import AttrPatch
from methods.controls import Random
from methods.core.objective import Objective
from methods.core.points import PointGrid, make_grid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.grad_scalar import GradScalar
from methods.method import Method, Setting
from reports.statistics import t_interval
from tasks.encoding import encode
from tasks.planted import FAMILIES, Planted

SETTING = Setting(Objective(), 0)


class Case:
    """A planted model as methods see it, in fp32, with its prompts and points."""

    def __init__(self, name: str, change: Callable[[Any], None] = lambda model: None) -> None:
        self.planted: PlantedModel = build_planted(name)
        change(self.planted.model)
        with quiet_transformers():
            bridge = boot_bridge(self.planted.model.float(), self.planted.tokenizer, name)
        self.subject = SubjectModel(bridge)
        task = Planted(name)
        self.circuit = self.planted.circuits[task.changed]
        batch = encode(task, self.planted.tokenizer, {"train": 6}, 0, 0).batches["train"]
        self.prompts = Prompts.of(batch, torch.device("cpu"))
        self.grid: PointGrid = make_grid(
            ["attn_out", "mlp_out"],
            "all",
            n_layers=self.subject.n_layers,
            n_positions=batch.n_positions,
            has_bos=True,
        )

    def scores(self, method: Method, setting: Setting = SETTING) -> Tensor:
        return method.fit(self.subject, self.prompts, self.grid, setting).scores

    def found(self, scores: Tensor) -> FindingRecord:
        (record,) = find(self.circuit, self.grid, self.prompts, scores, signed=True)
        return record


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {family: Case(f"planted-{family}-7") for family in FAMILIES}


def test_activation_patching_confirms_the_models_in_the_precision_of_the_suite(
    cases: dict[str, Case],
) -> None:
    """A backup shows in one direction, so the larger effect of the two is what is looked at."""
    for family, case in cases.items():
        one, other = (case.scores(ActivPatch(direction=way)) for way in ("noising", "denoising"))
        found = case.found(torch.where(one.abs() > other.abs(), one, other))
        assert found.auroc == found.average_precision == found.precision == 1, family
        assert (case.found(one).misses.get("backup", 0) > 0.5) == (family == "backup")
        kinds, _ = labels_of(case.circuit, case.grid)
        of_decoys = one[torch.from_numpy(kinds == "decoy")]
        assert len(of_decoys) >= 1
        assert of_decoys.abs().max() < 1e-5 * one.abs().max()


def test_first_order_methods_miss_backups_and_lookups_are_easy(cases: dict[str, Case]) -> None:
    for method in (AttrPatch(), GradScalar()):
        found = cases["backup"].found(cases["backup"].scores(method))
        assert found.misses["backup"] > 0.5
        assert found.auroc < 0.9
        assert cases["lookup"].found(cases["lookup"].scores(method)).auroc == 1


def test_gradients_take_cancelling_points_for_causal_ones(cases: dict[str, Case]) -> None:
    case = cases["distractors"]
    assert case.found(case.scores(AttrPatch())).false_positives["cancelling"] > 0.5
    assert case.found(case.scores(ActivPatch())).false_positives["cancelling"] == 0


def test_the_size_of_activations_is_fooled_by_decoys(cases: dict[str, Case]) -> None:
    for case in cases.values():
        norms = torch.zeros(case.grid.shape)
        seen = case.subject.activations(case.prompts.tokens, case.grid.site_layers)
        for (site, layer), values in seen.items():
            sizes = values.float().norm(dim=-1).mean(0)
            norms[case.grid.rows(site), layer] = sizes[list(case.grid.positions)]
        found = case.found(norms)
        assert found.false_positives["decoy"] > 0.5
        assert found.precision < 1


def test_random_scores_are_at_chance(cases: dict[str, Case]) -> None:
    case = cases["conflict"]
    draws = [case.found(case.scores(Random(draw=draw))) for draw in range(60)]
    for values in ([one.auroc for one in draws], [one.auroc_signed or 0 for one in draws]):
        interval = t_interval(values)
        assert interval.low < 0.5 < interval.high
        assert interval.high - interval.low < 0.2


def _rotated(model: Any) -> None:
    """The same function in another basis of the stream, which keeps the mean's direction."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(D_MODEL, D_MODEL, generator=generator, dtype=torch.float64)
    start[:, 0] = 1
    basis = torch.linalg.qr(start)[0]
    turned = torch.linalg.qr(torch.randn(D_MODEL - 1, D_MODEL - 1, generator=generator).double())[0]
    turn = basis @ torch.block_diag(torch.ones(1, 1, dtype=torch.float64), turned) @ basis.T
    for weight in (model.transformer.wte, model.transformer.wpe, model.lm_head):
        weight.weight.copy_(weight.weight @ turn)
    for block in model.transformer.h:
        for read in (block.attn.c_attn, block.mlp.c_fc):
            read.weight.copy_(turn.T @ read.weight)
        for write in (block.attn.c_proj, block.mlp.c_proj):
            write.weight.copy_(write.weight @ turn)


def _permuted(model: Any) -> None:
    """The same function with its heads in another order."""
    order = torch.arange(N_HEADS).roll(2)
    for block in model.transformer.h:
        read, write = block.attn.c_attn.weight, block.attn.c_proj.weight
        heads = read.view(D_MODEL, 3, N_HEADS, D_HEAD)
        heads.copy_(heads[:, :, order].clone())
        rows = write.view(N_HEADS, D_HEAD, D_MODEL)
        rows.copy_(rows[order].clone())


@pytest.mark.parametrize("change", [_rotated, _permuted])
def test_no_score_depends_on_the_basis_or_the_order_of_heads(
    change: Callable[[Any], None], cases: dict[str, Case]
) -> None:
    same, other = cases["ioi"], Case("planted-ioi-7", change)
    embedding = (case.planted.model.transformer for case in (same, other))
    weights = [(one.wte.weight, one.h[1].attn.c_proj.weight) for one in embedding]
    assert not all(map(torch.equal, *weights))
    for method in (ActivPatch(), AttrPatch(), GradScalar()):
        torch.testing.assert_close(same.scores(method), other.scores(method), rtol=1e-3, atol=1e-4)


def test_auroc_is_that_of_mann_and_whitney_and_equal_scores_are_drawn() -> None:
    generator = np.random.default_rng(0)
    sizes = generator.integers(0, 4, 30).astype(float)
    causal = generator.random(30) < 0.3
    statistic = mannwhitneyu(sizes[causal], sizes[~causal]).statistic
    assert auroc(sizes, causal) == pytest.approx(statistic / (causal.sum() * (~causal).sum()))
    among = chance_among_strongest(np.array([3.0, 1.0, 1.0, 0.0]), 2)
    assert among.tolist() == [1, 0.5, 0.5, 0]
    right = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3.0, 2.0, 1.0]), right) == pytest.approx(5 / 6)
    assert average_precision(np.ones(4), right) == pytest.approx(0.5)
