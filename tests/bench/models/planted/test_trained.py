"""Planted models with ordinary norms: files are checked, training trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.models.load import load_model
from bench.models.planted.train import Recipe, Trainer
from bench.models.planted.trained import DIGESTS, FOLDER, read_weights
from tasks.errors import UserInputError


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
