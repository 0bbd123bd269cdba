"""Small models and prompts that the tests of `methods` share, and a few things done by hand."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bench.conformance.small import tiny_prompts
from bench.models.tiny import tiny_bridge
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.points import HEAD_SITES, PointGrid, make_grid
from methods.core.prompts import Prompts
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from methods.core.subject import SubjectModel
from methods.core.training import gradients_of, initial
from methods.method import Setting

SERIAL = ("gpt2", "llama", "qwen2", "gemma2", "gemma3")
"""The architectures whose attention and MLP follow each other: those that have resid_mid."""

N_LAYERS = 3
N_POSITIONS = 7
FIRST_DIFFERENCE = 2
"""Clean and corrupted prompts are the same up to here."""
prompts = tiny_prompts


@cache
def _bridge(architecture: str, dtype: torch.dtype) -> Any:
    return tiny_bridge(architecture, n_layers=N_LAYERS, dtype=dtype)


def subject(
    architecture: str = "gpt2", dtype: torch.dtype = torch.float32, rows_per_forward: int = 500
) -> SubjectModel:
    """A tiny random model; the weights behind it are shared, so tests leave them alone."""
    return SubjectModel(_bridge(architecture, dtype), rows_per_forward)


def grid_of(
    model: SubjectModel,
    sites: Iterable[str] | None = None,
    positions: Any = "every",
    n_positions: int = N_POSITIONS,
    keep_final_residual: bool = False,
) -> PointGrid:
    """A grid over all sites of width d_model that the model has, unless told otherwise."""
    return make_grid(
        sorted(model.sites - HEAD_SITES) if sites is None else sites,
        positions,
        n_layers=model.n_layers,
        n_positions=n_positions,
        has_bos=True,
        keep_final_residual=keep_final_residual,
        heads=model.heads,
    )


def setting(seed: int = 0, parent_scores: Tensor | None = None, **objective: float) -> Setting:
    """The setting of a fit with the suite's objective."""
    return Setting(Objective(**objective), seed, parent_scores)


def prompt_scores(method: Any, model: SubjectModel, some: Prompts, grid: PointGrid) -> Tensor:
    """What a method gives every prompt, (prompt, place, layer, position)."""
    found = method.fit(model, some, grid, setting()).prompt_scores
    assert found is not None
    return found  # type: ignore[no-any-return]


def apart(ours: Tensor, theirs: Tensor) -> float:
    """How far two tensors of one shape are apart at most."""
    assert ours.shape == theirs.shape
    return float((ours.detach().double() - theirs.detach().double()).abs().max())


def make(kind: Any, grid: PointGrid, seed: int = 0, size: float = 0.3) -> Any:
    """A random intervention of a kind."""
    width = max(grid.widths(32))
    shapes = {
        StaticScaling: grid.shape,
        SteeringVectors: (*grid.shape, width),
        DynamicScaling: (*grid.shape[:2], width),
    }
    return kind(grid, initial(shapes[kind], size, seed))


def in_turn(first: Iterable[Any], second: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Each of `first` with one of `second`, in turn, and each of the second at least once."""
    return [(one, second[at % len(second)]) for at, one in enumerate(first)]


def against_finite_differences(
    model: SubjectModel, own: Intervention, some: Prompts, objective: Objective
) -> None:
    """Fails where a parameter's gradient of -Psi is not what two nearby values of Psi say."""
    psi = gradients_of(model, own, some, objective)
    every = torch.arange(len(some))
    psi(every)
    gradients = [(one, one.grad.clone()) for one in own.parameters() if one.grad is not None]
    assert len(gradients) == len(list(own.parameters()))
    for parameter, gradient in gradients:
        start, step = parameter.detach().clone(), 0.01 * gradient / gradient.norm()
        found = []
        for sign in (1, -1):
            parameter.data = start + sign * step
            found.append(float(psi(every)))
        parameter.data = start
        expected = -0.02 * float(gradient.norm())
        assert abs(expected) > 1e-3
        assert abs(found[0] - found[1] - expected) < 0.03 * abs(expected)
