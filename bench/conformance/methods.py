"""What every method has to keep, checked on tiny models of six architectures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError

import torch

from bench.conformance.check import NotConformingError, check_line, needs, require
from bench.conformance.method_case import Case as Case
from bench.conformance.method_case import check_fit
from bench.conformance.method_leaves import (
    check_left_as_found,
    check_left_as_found_when_broken,
    check_prompts,
)
from bench.conformance.method_scores import (
    check_bfloat16,
    check_grad_mode,
    check_positions,
    check_scores,
    check_seed,
)
from bench.conformance.small import check_strengths, tiny_prompts, tiny_subject
from methods.core.points import ALL_SITES


def check_entry(case: Case) -> None:
    """its name and its one line in `list` are readable"""
    summary = case.entry.summary
    require(
        case.name == case.name.lower() and case.name.isidentifier(),
        "the name has to be lower-case letters, digits and _",
    )
    check_line(summary, "method")
    require(case.kind.__doc__, "the class has to have a docstring: what the score of a point is")


def check_dataclass(case: Case) -> None:
    """it is a frozen dataclass whose settings have defaults"""
    try:
        case.method.some_state = 1
    except FrozenInstanceError:
        pass
    else:
        raise NotConformingError("the dataclass has to be frozen: @dataclass(frozen=True)")
    require(case.method == Case(case.name).method, "two with the same settings have to be equal")
    require(case.method.sites and case.method.sites <= ALL_SITES, "`sites` has to be a set of Site")


@needs(check_scores)
def check_beta_zero(case: Case) -> None:
    """at beta = 0 the logits are identical, at beta = 1 they are not, on six architectures"""
    for architecture in case.architectures:
        model = tiny_subject(architecture)
        grid, found = case.found(architecture)
        intervention = case.intervention(found, grid)
        check_strengths(model, tiny_prompts().tokens, intervention, f"on {architecture}")


@needs(check_fit)
def check_trained(case: Case) -> None:
    """a method gives an intervention, or steps and their reach, exactly if it says so"""
    _, found = case.found("gpt2")
    trained = case.method.trained
    require(
        (found.intervention is not None) == (trained or case.method.own_intervention),
        "a method gives an intervention exactly if it says `trained = True`, or, where its beta is "
        "to be tuned, `own_intervention = True`",
    )
    require(not (trained and case.method.own_intervention), "what is trained is not tuned")
    require(
        (found.steps > 0) == (found.reach is not None) == trained,
        "a trained method gives steps and reach, no other one does",
    )
    require(not (trained and case.method.control), "a control is not trained")
    if found.intervention is not None:
        kept = found.intervention.masked(torch.ones_like(found.intervention.magnitudes()))
        require(
            kept.theta().shape == found.intervention.theta().shape == (kept.theta().numel(),),
            "theta() has to be flat, and masked() has to keep its length",
        )


CHECKS: tuple[Callable[[Case], None], ...] = (
    check_entry,
    check_dataclass,
    check_fit,
    check_left_as_found,
    check_left_as_found_when_broken,
    check_prompts,
    check_scores,
    check_positions,
    check_seed,
    check_bfloat16,
    check_grad_mode,
    check_beta_zero,
    check_trained,
)
"""Every check, behind those it needs; its docstring is what it makes sure of, in words."""
