"""Tiny random models, prompts for them and points on them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from bench.models.tiny import tiny_bridge
from methods.core.points import PointGrid, make_grid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel

N_LAYERS = 3
N_POSITIONS = 7
N_PROMPTS = 3
VOCABULARY = 64


@cache
def _bridge(architecture: str, dtype: torch.dtype) -> Any:
    return tiny_bridge(architecture, n_layers=N_LAYERS, vocab=VOCABULARY, dtype=dtype)


def tiny_subject(architecture: str = "gpt2", dtype: torch.dtype = torch.float32) -> SubjectModel:
    """A tiny random model."""
    return SubjectModel(_bridge(architecture, dtype), 500)


def tiny_prompts() -> Prompts:
    """Random prompts behind a BOS; the corrupted ones differ in tokens 2 and 4."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, VOCABULARY, (N_PROMPTS, N_POSITIONS), generator=generator)
    tokens[:, 0] = 0
    corrupted = tokens.clone()
    for position in (2, 4):
        corrupted[:, position] = tokens[:, position] % (VOCABULARY - 1) + 1
    answers = torch.randint(0, VOCABULARY // 2, (N_PROMPTS,), generator=generator)
    foils = torch.randint(VOCABULARY // 2, VOCABULARY, (N_PROMPTS,), generator=generator)
    return Prompts(tokens, corrupted, answers, foils, has_bos=True)


def grid_on(model: SubjectModel, sites: list[str], positions: Any = "every") -> PointGrid:
    """The points of these sites of a tiny model."""
    return make_grid(
        sites,
        positions,
        n_layers=model.n_layers,
        n_positions=N_POSITIONS,
        has_bos=True,
        heads=model.heads,
    )
