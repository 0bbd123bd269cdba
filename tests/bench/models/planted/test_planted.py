"""Planted models are what they say: every label confirmed by a loop that shares no code with it."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from bench.models.planted.circuit import CAUSAL, Part
from bench.models.planted.model import build_planted
from bench.models.planted.trained import TRAINED_NAMES
from tasks.encoding import encode
from tasks.planted import FAMILIES, Planted
from tests.bench.models.planted.exact import Loop, Point

SEEDS = {"lookup": 1, "induction": 2, "conflict": 3, "ioi": 4, "backup": 5, "distractors": 6}


class Thresholds(NamedTuple):
    """Shares of the change in LD: what is causal has more than `effect`, all others less than
    `leak`, and what misleads less than `pair`, alone and together with any causal point."""

    effect: float
    leak: float
    pair: float


BUILT = Thresholds(0.02, 1e-3, 1e-9)
TRAINED = {
    "lookup": Thresholds(0.5, 0.025, 0.025),
    "induction": Thresholds(0.4, 0.03, 0.03),
    "conflict": Thresholds(0.35, 0.05, 0.05),
    "ioi": Thresholds(0.9, 0.05, 0.15),
    "backup": Thresholds(0.4, 0.03, 0.03),
    "distractors": Thresholds(0.8, 0.025, 0.025),
}
CASES = [
    *((f"planted-{family}-{seed}", family, BUILT) for family, seed in SEEDS.items()),
    *((name, family, TRAINED[family]) for name, family in TRAINED_NAMES.items()),
]


def loop_of(name: str, counterfactual: str) -> tuple[Loop, tuple[Part, ...], list[tuple[int, int]]]:
    """The loop, the labels, and where the residual stream is said to carry: (layer, position)."""
    planted = build_planted(name)
    task = Planted(name, counterfactual)
    batch = encode(task, planted.tokenizer, {"train": 10}, 0, 0).batches["train"]
    arrays = (batch.tokens, batch.corrupted, batch.answers, batch.foils)
    circuit = planted.circuits[counterfactual]
    n_layers = planted.model.config.n_layer
    carried = [
        (layer, one.position)
        for one in circuit.carried
        for layer in range(n_layers)
        if one.written <= 2 * layer + 1 < one.read
    ]
    return Loop(planted.model, *map(torch.from_numpy, arrays)), circuit.parts, carried


def points_of(part: Part) -> list[Point]:
    """A part as a point, and as a head where it is one."""
    whole: Point = (part.site, part.layer, None, part.position)
    return [whole] if part.head is None else [whole, ("z", part.layer, part.head, part.position)]


@pytest.mark.parametrize(
    ("name", "counterfactual", "thresholds"),
    [
        pytest.param(name, one, thresholds, id=f"{name}-{one}")
        for name, family, thresholds in CASES
        for one in FAMILIES[family].counterfactuals
    ],
)
def test_a_loop_confirms_every_label(
    name: str, counterfactual: str, thresholds: Thresholds
) -> None:
    loop, parts, carried = loop_of(name, counterfactual)
    config, (effect, leak, pair) = loop.model.config, thresholds
    scale = (loop.ld_clean - loop.ld_corrupted).abs().mean()
    kinds = {point: part for part in parts for point in points_of(part)}
    causal = [points_of(part)[0] for part in parts if part.kind in CAUSAL]
    middle = float(torch.tensor([loop.variance(point) for point in causal]).median())
    heads = [point for point in kinds if point[0] == "z"]
    if thresholds is not BUILT:
        assert config.layer_norm_epsilon == 1e-5
        assert loop.ld_clean.min() > 0
        heads = [
            ("z", layer, head, position)
            for layer in range(config.n_layer)
            for head in range(config.n_head)
            for position in range(1, loop.clean.shape[1])
        ]
    # Not those before the first word that differs.
    met = [one for one in [*loop.points(("attn_out", "mlp_out")), *heads] if loop.difference(one)]
    loop.run_noising([(point,) for point in [*met, *loop.points(("resid_post",))]])
    loop.run_noising([(one, other) for one in met if one in kinds for other in causal])
    assert {*kinds} <= {*met}
    for point in met:
        part, single = kinds.get(point), loop.noising(point)
        if part is not None and part.kind == "causal":
            assert single.mean() / scale * part.sign > effect, point
            continue
        assert single.abs().mean() / scale < leak, point
        if part is None:
            continue
        others = [other for other in causal if other not in points_of(part)]
        in_pairs = torch.stack([loop.noising(point, one) - loop.noising(one) for one in others])
        if part.kind == "backup":
            assert in_pairs.mean(1).max() / scale * part.sign > effect, point
            assert loop.denoising(point).mean() / scale * part.sign > effect, point
            continue
        assert single.abs().mean() / scale < pair, point
        assert in_pairs.abs().mean(1).max() / scale < pair, point
        if part.kind == "decoy":
            assert loop.variance(point) >= middle, point
    has_backup = any(part.kind == "backup" for part in parts)
    for point in loop.points(("resid_post",)):
        _, layer, _, position = point
        if layer < config.n_layer - 1:
            carries = (layer, position) in carried
            # What a backup writes is used where the first gives nothing, not on the clean prompt.
            changed = loop.denoising if carries and has_backup else loop.noising
            share = float(changed(point).abs().mean() / scale)
            assert share > effect if carries else share < leak, point


def test_a_name_gives_the_same_weights_again_and_another_seed_others() -> None:
    one, again, other = (build_planted(f"planted-ioi{end}").model for end in ("-2", "-2", "-3"))
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    assert not torch.equal(one.transformer.wte.weight, other.transformer.wte.weight)


def test_norms_only_take_the_mean_away() -> None:
    norm = build_planted("planted-lookup").model.transformer.ln_f
    stream = torch.randn(4, 160, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        norm(stream), stream - stream.mean(dim=-1, keepdim=True), rtol=0, atol=1e-9
    )
