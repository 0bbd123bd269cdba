"""Tiny random models, prompts for them and points on them, and what is asked of any model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.conformance.check import NotConformingError, require
from bench.execution.unchanged import LeftBehindError, left_unchanged
from bench.models.tiny import tiny_bridge
from methods.core.intervention import Intervention
from methods.core.points import PointGrid, make_grid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel

N_LAYERS = 3
N_POSITIONS = 7
N_PROMPTS = 3
VOCABULARY = 64


def tiny_subject(architecture: str = "gpt2", dtype: torch.dtype = torch.float32) -> SubjectModel:
    """A tiny random model, made anew: nothing that was done to another one is in it."""
    bridge = tiny_bridge(architecture, n_layers=N_LAYERS, vocab=VOCABULARY, dtype=dtype)
    return SubjectModel(bridge, 500)


def tiny_prompts(
    n: int = N_PROMPTS, length: int = N_POSITIONS, seed: int = 0, vocab: int = VOCABULARY
) -> Prompts:
    """Random prompts behind a BOS; the corrupted ones differ in tokens 2 and 4."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, vocab, (n, length), generator=generator)
    tokens[:, 0] = 0
    corrupted = tokens.clone()
    for position in (2, 4):
        corrupted[:, position] = tokens[:, position] % (vocab - 1) + 1
    answers = torch.randint(0, vocab // 2, (n,), generator=generator)
    foils = torch.randint(vocab // 2, vocab, (n,), generator=generator)
    return Prompts(tokens, corrupted, answers, foils, has_bos=True)


def grid_on(
    model: SubjectModel,
    sites: list[str],
    positions: Any = "every",
    n_positions: int = N_POSITIONS,
    has_bos: bool = True,
) -> PointGrid:
    """The points of these sites of a model, on prompts of one length."""
    return make_grid(
        sites,
        positions,
        n_layers=model.n_layers,
        n_positions=n_positions,
        has_bos=has_bos,
        heads=model.heads,
    )


def check_strengths(
    model: SubjectModel, tokens: Tensor, intervention: Intervention, where: str
) -> None:
    """Requires that beta = 0 leaves every logit as it is, bit for bit, and that beta = 1 does not.

    Raises:
        NotConformingError: with `where` in front of its words.
    """
    with torch.no_grad():
        plain = model.logits(tokens)
        zero, one = (
            model.logits(tokens, intervention.at(torch.full((len(tokens),), beta)))
            for beta in (0.0, 1.0)
        )
    require(torch.equal(plain, zero), f"{where}, beta = 0 changes the logits")
    require(not torch.equal(plain, one), f"{where}, beta = 1 changes nothing")


@contextmanager
def left_as_found(model: SubjectModel) -> Iterator[None]:
    """Requires that the block changes nothing about the model or the state of torch."""
    with torch.no_grad():  # the bridge adds hooks of its own at its first forward
        model.logits(torch.arange(2, device=model.device).view(1, 2))
    try:
        with left_unchanged(model, "a fit", checksum=True):
            yield
    except LeftBehindError as error:
        raise NotConformingError(str(error)) from None
