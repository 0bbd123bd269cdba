"""Planted models with ordinary norms: labels hold, files are checked, training trains."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from bench.models.load import load_model
from bench.models.planted.circuit import CAUSAL
from bench.models.planted.train import Recipe, Trainer
from bench.models.planted.trained import DIGESTS, FOLDER, TRAINED_NAMES, read_weights
from tasks.errors import UserInputError
from tasks.planted import FAMILIES
from tests.bench.models.planted.exact import Point
from tests.bench.models.planted.test_planted import loop_of, points_of

CASES = [
    (name, counterfactual)
    for name, family in TRAINED_NAMES.items()
    for counterfactual in FAMILIES[family].counterfactuals
]


class Thresholds(NamedTuple):
    """Shares of the change in LD: what is causal has more than `effect`, all others less than
    `leak`, and what misleads less than `pair` together with any causal point."""

    effect: float
    leak: float
    pair: float


THRESHOLDS = {
    "lookup": Thresholds(0.5, 0.025, 0.025),
    "induction": Thresholds(0.4, 0.03, 0.03),
    "conflict": Thresholds(0.35, 0.05, 0.05),
    "ioi": Thresholds(0.9, 0.05, 0.15),
    "backup": Thresholds(0.4, 0.03, 0.03),
    "distractors": Thresholds(0.8, 0.025, 0.025),
}


@pytest.mark.parametrize(("name", "counterfactual"), CASES)
def test_a_loop_confirms_every_label(name: str, counterfactual: str) -> None:
    loop, parts, carried = loop_of(name, counterfactual)
    config, (effect, leak, pair) = loop.model.config, THRESHOLDS[TRAINED_NAMES[name]]
    assert config.layer_norm_epsilon == 1e-5
    scale = (loop.ld_clean - loop.ld_corrupted).abs().mean()
    assert loop.ld_clean.min() > 0
    kinds = {point: part for part in parts for point in points_of(part)}
    causal = [points_of(part)[0] for part in parts if part.kind in CAUSAL]
    middle = float(torch.tensor([loop.variance(point) for point in causal]).median())
    heads: list[Point] = [
        ("z", layer, head, position)
        for layer in range(config.n_layer)
        for head in range(config.n_head)
        for position in range(1, loop.clean.shape[1])
    ]
    met = set()
    for point in [*loop.points(("attn_out", "mlp_out")), *heads]:
        if loop.difference(point) == 0:  # before the first word that differs
            continue
        met.add(point)
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
        assert in_pairs.abs().mean(1).max() / scale < pair, point
        if part.kind == "decoy":
            assert loop.variance(point) >= middle, point
    assert {*kinds} <= met
    has_backup = any(part.kind == "backup" for part in parts)
    for point in loop.points(("resid_post",)):
        _, layer, _, position = point
        if layer < config.n_layer - 1:
            carries = (layer, position) in carried
            # What a backup writes is used where the first gives nothing, not on the clean prompt.
            changed = loop.denoising if carries and has_backup else loop.noising
            share = float(changed(point).abs().mean() / scale)
            assert share > effect if carries else share < leak, point


def test_what_is_shipped_is_small_and_known() -> None:
    files = [*FOLDER.glob("*")]
    assert {file.name for file in files} == {f"{stem}.safetensors" for stem in DIGESTS}
    assert max(file.stat().st_size for file in files) < 800_000


def test_weights_that_are_altered_or_were_never_trained_are_refused(tmp_path: Path) -> None:
    stem = next(iter(DIGESTS))
    content = bytearray((FOLDER / f"{stem}.safetensors").read_bytes())
    content[-1] ^= 1
    with pytest.raises(UserInputError, match=r"safetensors is not there, and should have "):
        read_weights(f"planted-{stem}-trained", tmp_path)
    (tmp_path / f"{stem}.safetensors").write_bytes(content)
    with pytest.raises(UserInputError, match=r"has the sha256 .*, and should have .*again"):
        read_weights(f"planted-{stem}-trained", tmp_path)
    with pytest.raises(UserInputError, match=r'No weights of "planted-ioi-999-trained" were'):
        load_model("planted-ioi-999-trained")


def test_a_few_steps_lower_the_loss() -> None:
    trainer = Trainer("planted-lookup-0", Recipe(drawn=20, pairs=8, interchanges=48))
    losses = [trainer.step(0.0) for _ in range(12)]
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
