"""Planted models are what they say: every label confirmed by a loop that shares no code with it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.models.planted.circuit import CAUSAL, Part
from bench.models.planted.model import build_planted
from tasks.encoding import encode
from tasks.planted import FAMILIES, Planted
from tests.bench.models.planted.exact import Loop, Point

SEEDS = {"lookup": 1, "induction": 2, "conflict": 3, "ioi": 4, "backup": 5, "distractors": 6}
CASES = [(name, cf) for name, family in FAMILIES.items() for cf in family.counterfactuals]
EFFECT, LEAK = 0.02, 1e-3
"""Shares of the change in LD: a causal point has more than the one, all others less than the
other."""


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


@pytest.mark.parametrize(("family", "counterfactual"), CASES)
def test_a_loop_confirms_every_label(family: str, counterfactual: str) -> None:
    loop, parts, carried = loop_of(f"planted-{family}-{SEEDS[family]}", counterfactual)
    scale = (loop.ld_clean - loop.ld_corrupted).abs().mean()
    kinds = {point: part for part in parts for point in points_of(part)}
    causal = [points_of(part)[0] for part in parts if part.kind in CAUSAL]
    middle = float(torch.tensor([loop.variance(point) for point in causal]).median())

    def share(effect: Tensor) -> float:
        return float(effect.mean() / scale)

    def given(other: Point, point: Point) -> float:
        return float((loop.noising(point, other) - loop.noising(other)).abs().mean())

    heads = [point for point in kinds if point[0] == "z"]
    for point in [*loop.points(("attn_out", "mlp_out")), *heads]:
        part, single = kinds.get(point), loop.noising(point)
        if part is None:
            assert share(single.abs()) < LEAK, point
            continue
        assert loop.difference(point) > 1e-6, point
        in_pairs = max(given(other, point) for other in causal if other not in points_of(part))
        if part.kind == "causal":
            assert share(single) * part.sign > EFFECT, point
        elif part.kind == "backup":
            assert share(single.abs()) < LEAK, point
            assert in_pairs / scale > EFFECT, point
            assert share(loop.denoising(point)) * part.sign > EFFECT, point
        else:
            assert max(float(single.abs().max()), in_pairs) < 1e-9, point
            if part.kind == "decoy":
                assert loop.variance(point) >= middle, point
    for point in loop.points(("resid_post",)):
        _, layer, _, position = point
        if layer < loop.model.config.n_layer - 1 and (layer, position) not in carried:
            assert share(loop.noising(point).abs()) < LEAK, point
        elif layer < loop.model.config.n_layer - 1 and family != "backup":
            assert share(loop.noising(point).abs()) > EFFECT, point


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
