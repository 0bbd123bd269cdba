"""Checks what a method gave (shapes, finite numbers, means), and turns it into stored arrays."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral

import torch
from torch import Tensor

from bench.store.cells import Tensors
from methods.core.intervention import Intervention
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method, Setting

MOST_STEPS = 2**53
"""Whole numbers up to here are the same in every JSON."""


class BadScoresError(ValueError):
    """A method's scores cannot be used: its adapter is wrong, or the model gave no numbers."""


def fit(
    method: Method, subject: SubjectModel, prompts: Prompts, grid: PointGrid, setting: Setting
) -> tuple[Attribution, Intervention]:
    """What a method found, and what is plugged into the model: its own, or Eq. 5 of its scores.

    Raises:
        BadScoresError: as `checked`.
    """
    rows = subject.rows_per_forward
    try:
        found = method.fit(subject, prompts, grid, setting)
    finally:
        subject.rows_per_forward = rows  # a method may have its own; what follows has the cell's
    attribution = checked(found, grid, len(prompts))
    intervention = attribution.intervention
    if intervention is None:
        intervention = StaticScaling.from_scores(grid, attribution.scores)
    return attribution, intervention.to(subject.device)


def checked(attribution: Attribution, grid: PointGrid, n_prompts: int) -> Attribution:
    """The attribution on the CPU with NaN where points are left out.

    Raises:
        BadScoresError: for what is no attribution, scores of the wrong shape, scores that are no
            numbers or not the mean of those per prompt, or a number of steps that is none.
    """
    if not isinstance(attribution, Attribution):
        raise BadScoresError(f"fit has to give an Attribution, not {_kind(attribution)}")
    if not (isinstance(attribution.steps, Integral) and 0 <= attribution.steps <= MOST_STEPS):
        raise BadScoresError(f"the method's steps have to be a number from 0 to {MOST_STEPS}")
    scores = _masked(attribution.scores, "scores", grid, grid.shape)
    per_prompt = attribution.prompt_scores
    if per_prompt is not None:
        per_prompt = _masked(per_prompt, "prompt_scores", grid, (n_prompts, *grid.shape))
        mean = per_prompt.mean(dim=0)
        scale = float(scores.nan_to_num().abs().max())
        if not torch.allclose(mean, scores, rtol=1e-3, atol=1e-4 * scale, equal_nan=True):
            raise BadScoresError("the method's scores are not the mean of its prompt_scores")
    extras = {
        name: _masked(extra, name, grid, grid.shape) for name, extra in attribution.extras.items()
    }
    return replace(attribution, scores=scores, prompt_scores=per_prompt, extras=extras)


def _masked(values: Tensor, name: str, grid: PointGrid, shape: tuple[int, ...]) -> Tensor:
    """`values` as fp32 on the CPU, NaN at the points that are left out."""
    if not isinstance(values, Tensor):
        raise BadScoresError(f"the method's {name} have to be a tensor, not {_kind(values)}")
    if tuple(values.shape) != shape:
        raise BadScoresError(
            f"the method's {name} have shape {tuple(values.shape)} instead of {shape}: "
            f"(place, layer, position) of the grid is {grid.shape}"
        )
    values = values.detach().float().cpu()
    if not bool(torch.isfinite(values[..., grid.included]).all()):
        raise BadScoresError(f"the method's {name} hold NaN or infinite values")
    return values.masked_fill(~grid.included, torch.nan)


def _kind(given: object) -> str:
    return "None" if given is None else f"a {type(given).__name__}"


def method_tensors(attribution: Attribution, intervention: Intervention) -> Tensors:
    """What the method gave and what is plugged into the model."""
    named: dict[str, Tensor] = {"scores": attribution.scores}
    named |= {
        f"intervention.{name}": parameter for name, parameter in intervention.named_parameters()
    }
    named |= {f"extra.{name}": extra for name, extra in attribution.extras.items()}
    if attribution.prompt_scores is not None:
        named["prompt_scores"] = attribution.prompt_scores
    return {name: tensor.detach().float().cpu().numpy() for name, tensor in named.items()}
