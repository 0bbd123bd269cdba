"""What a method has to leave alone: the model, torch's state, its prompts, its parent's scores."""

from __future__ import annotations

from typing import Any

import torch

from bench.conformance.check import needs, require
from bench.conformance.method_case import Case, check_fit
from bench.conformance.small import tiny_prompts, tiny_subject
from bench.conformance.unchanged import left_as_found
from bench.execution.unchanged import modes_kept


@needs(check_fit)
def check_left_as_found(case: Case) -> None:
    """the model, its hooks and weights, and torch's state are left as found"""
    for architecture in ("gpt2", "gemma2"):
        model = tiny_subject(architecture)
        before = model.unsteered_logits(tiny_prompts().tokens)
        with left_as_found(model):
            case.fit(model)
        require(
            torch.equal(before, model.unsteered_logits(tiny_prompts().tokens)),
            "after a fit the unsteered model gives other logits",
        )


class BrokenError(Exception):
    """What goes wrong in the middle of a run."""


@needs(check_left_as_found)
def check_left_as_found_when_broken(case: Case) -> None:
    """they are so too after a fit that breaks at its first, second or third forward"""
    for at in (1, 2, 3):
        model = tiny_subject()
        calls: list[int] = []

        def die(module: Any, args: Any, output: Any, at: int = at, calls: Any = calls) -> None:
            calls.append(1)
            if len(calls) == at:
                raise BrokenError

        with left_as_found(model):
            handle = model.bridge.blocks[-1].mlp.register_forward_hook(die)
            broke = False
            try:
                case.fit(model)
            except BrokenError:
                broke = True
            finally:
                handle.remove()
        require(broke == (len(calls) >= at), "an error of the model is swallowed")


@needs(check_fit)
def check_prompts(case: Case) -> None:
    """it does not change its prompts or its parent's scores"""
    model, prompts = tiny_subject(), tiny_prompts()
    grid = case.grid(model)
    ascending = torch.arange(float(grid.included.numel())).reshape(grid.shape)
    parent = ascending.clone() if case.method.parent else None
    with modes_kept():
        case.fit(model, grid, prompts=prompts, parent=parent)
    for part in ("tokens", "corrupted", "answers", "foils"):
        require(
            torch.equal(getattr(prompts, part), getattr(tiny_prompts(), part)),
            f"it changes prompts.{part}",
        )
    require(parent is None or torch.equal(parent, ascending), "it changes its parent's scores")
