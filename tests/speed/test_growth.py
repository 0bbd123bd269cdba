"""How cost grows with layers, positions, prompts and points, on random-weight models.

The exponents of the fast way are those of the naive one, which runs every patch through the whole
model; what differs is the constant, and that is known: L^2 I^2 layer-tokens a prompt and site are
L(L+1)/2 x I(I+1)/2 where only what a patch can reach is run.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bench.models.tiny import tiny_bridge
from methods import METHODS
from methods.activ_patch import ActivPatch
from methods.core.corruption import contrasts
from methods.core.objective import Objective
from methods.core.patches import reachable_patches
from methods.core.points import make_grid
from methods.core.resumed import ResumedRun
from methods.core.stacked import StackedRun
from methods.core.subject import SubjectModel
from methods.method import Setting
from tests.speed.conftest import REGRESSION, Comparison, random_prompts

SIZES: dict[str, Any] = {
    "hidden_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 768,
    "max_position_embeddings": 128,
}
USUAL = {"layers": 8, "positions": 24, "prompts": 2, "sites": 1}
SITES = ("mlp_out", "attn_out", "resid_post", "z")
GROWTH = {
    "layers": (6, 12, 24),
    "positions": (12, 24, 48),
    "prompts": (2, 4, 8),
    "sites": (1, 2, 3),
}
EXPONENTS = {
    "activ_patch": {"layers": 2, "positions": 2, "prompts": 1, "sites": 1},
    "attr_patch": {"layers": 1, "positions": 1, "prompts": 1, "sites": 0.3},
    "grad_scalar": {"layers": 1, "positions": 1, "prompts": 1, "sites": 0.3},
    "activ_scalar": {"layers": 1, "positions": 1, "prompts": 1, "sites": 0.3},
}
"""At most these powers of the time, up to the tolerance of a regression."""


def setting_of(layers: int, positions: int, prompts: int, sites: int) -> tuple[Any, ...]:
    """A model, prompts and a grid of these sizes."""
    subject = SubjectModel(tiny_bridge("llama", n_layers=layers, vocab=4096, **SIZES))
    some = random_prompts(prompts, positions)
    grid = make_grid(
        SITES[:sites],
        "every",
        n_layers=layers,
        n_positions=positions,
        has_bos=True,
        keep_final_residual=True,
    )
    return subject, some, grid


def least_time(function: Callable[[], object], rounds: int = 3) -> float:
    """The shortest of some rounds, in seconds, after one to warm up."""
    function()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize("axis", GROWTH)
@pytest.mark.parametrize("name", EXPONENTS)
def test_exponent(benchmark: Any, name: str, axis: str) -> None:
    """The slope of log time over log size."""
    method = METHODS[name].load()()
    times = []
    for size in GROWTH[axis]:
        subject, some, grid = setting_of(**{**USUAL, axis: size})
        times.append(
            least_time(lambda: method.fit(subject, some, grid, Setting(Objective(), 0)))  # noqa: B023
        )
    slope = float(np.polyfit(np.log(GROWTH[axis]), np.log(times), 1)[0])
    benchmark.extra_info.update(exponent=slope, seconds=times, sizes=GROWTH[axis])
    benchmark.pedantic(lambda: None, rounds=1)  # the times are above
    print(f"\n{name}: time grows with {axis} to the power {slope:.2f} ({GROWTH[axis]})")
    assert slope <= EXPONENTS[name][axis] * REGRESSION + 0.1


@torch.no_grad()
def test_the_constant(compare: Comparison) -> None:
    """4LI / ((L+1)(I+1)) times fewer layer-tokens than with every patch as a row of a whole run."""
    layers, positions = 24, 48
    subject, some, grid = setting_of(layers, positions, 1, 1)
    contrast = contrasts(subject, some, grid, "counterfactual", "noising", 0)[0]
    patches = reachable_patches(subject, grid, contrast)
    resumed, stacked = ResumedRun(subject, grid, contrast), StackedRun(subject, grid, contrast)
    fewer = 4 * layers * positions / ((layers + 1) * (positions + 1))
    compare(
        f"layers and positions that a patch can reach, at best 1/{fewer:.2f}",
        lambda: resumed.logit_differences(patches),
        lambda: stacked.logit_differences(patches),
        at_most=2 / fewer,
        rounds=3,
    )
    torch.testing.assert_close(
        resumed.logit_differences(patches), stacked.logit_differences(patches), atol=1e-3, rtol=1e-3
    )
    assert ActivPatch().contrast_scores(subject, grid, contrast).shape == (1, *grid.shape)
