"""What every method has to keep, checked on tiny models of six architectures."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bench.conformance.check import check_frozen, check_names, needs, require
from bench.conformance.method_case import Case, Fit
from bench.conformance.small import (
    N_PROMPTS,
    check_strengths,
    grid_on,
    left_as_found,
    tiny_prompts,
    tiny_subject,
)
from bench.execution.unchanged import seeded
from methods.core.points import ALL_SITES


def check_entry(case: Case) -> None:
    """its name and its one line in `list` are readable"""
    check_names(case, "method", "what the score of a point is")


def check_dataclass(case: Case) -> None:
    """it is a frozen dataclass whose settings have defaults"""
    check_frozen(case.method, Case(case.name).method)
    require(case.method.sites and case.method.sites <= ALL_SITES, "`sites` has to be a set of Site")


def check_fit(case: Case) -> None:
    """it gives an attribution, on six architectures"""
    require(case.fits, "it has no site in common with any of them")


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
    model = tiny_subject()
    for at in (1, 2, 3):
        calls = 0

        def die(module: Any, args: Any, output: Any, at: int = at) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                raise BrokenError

        broke = False
        with left_as_found(model):
            handle = model.bridge.blocks[-1].mlp.register_forward_hook(die)
            try:
                case.fit(model)
            except BrokenError:
                broke = True
            finally:
                handle.remove()
        require(broke == (calls >= at), "an error of the model is swallowed")


@needs(check_left_as_found)
def check_prompts(case: Case) -> None:
    """it does not change its prompts or its parent's scores"""
    (model, grid, _), prompts = case.fits["gpt2"], tiny_prompts()
    ascending = torch.arange(float(grid.included.numel())).reshape(grid.shape)
    parent = ascending.clone() if case.method.parent else None
    case.fit(model, grid, prompts=prompts, parent=parent)
    for part in ("tokens", "corrupted", "answers", "foils"):
        require(
            torch.equal(getattr(prompts, part), getattr(tiny_prompts(), part)),
            f"it changes prompts.{part}",
        )
    require(parent is None or torch.equal(parent, ascending), "it changes its parent's scores")


@needs(check_fit)
def check_scores(case: Case) -> None:
    """scores are finite, of the grid's shape, and not all 0, on six architectures"""
    for architecture, (_, grid, found) in case.fits.items():
        where = f"on {architecture}: "
        require(
            found.scores.shape == grid.shape,
            f"{where}scores have shape {tuple(found.scores.shape)}; (place, layer, position) of "
            f"the grid is {grid.shape}",
        )
        dtype = found.scores.dtype
        require(dtype == torch.float32, f"{where}scores have to be torch.float32, and are {dtype}")
        require(not found.scores.requires_grad, f"{where}scores have to be detached")
        included = found.scores[grid.included]
        require(bool(torch.isfinite(included).all()), f"{where}scores hold NaN or infinity")
        require(included.abs().max() > 0, f"{where}every score is 0")
        require(
            all(isinstance(note, str) for note in found.notes)
            and all(torch.is_tensor(extra) for extra in found.extras.values()),
            f"{where}notes have to be strings and extras tensors",
        )
        if found.prompt_scores is not None:
            require(
                found.prompt_scores.shape == (N_PROMPTS, *grid.shape),
                f"{where}prompt_scores have to have shape (prompt, place, layer, position)",
            )
            mean = found.prompt_scores.mean(dim=0)[grid.included]
            require(
                torch.allclose(mean, included, rtol=1e-4, atol=1e-5),
                f"{where}scores have to be the mean of prompt_scores",
            )


@needs(check_left_as_found)
def check_positions(case: Case) -> None:
    """it takes any site and any positions"""
    require("gemma3" in case.fits, "it has no site in common with Gemma 3")
    model = case.fits["gemma3"].model
    grid = grid_on(model, case.sites(model)[:1], [2, -1])
    scores = case.fit(model, grid).found.scores
    require(
        scores.shape == grid.shape,
        f"for one site and two positions scores have shape {tuple(scores.shape)}, not "
        f"{grid.shape}: use grid.positions, not all positions of the prompt",
    )


@needs(check_scores, check_left_as_found)
def check_seed(case: Case) -> None:
    """the same seed gives the same scores, and the global random state has no part in it"""
    first, drew = _drawing(case, 1)
    again, _ = _drawing(case, 2)
    included = first.grid.included
    same = torch.equal(first.found.scores[included], again.found.scores[included])
    if first.found.intervention is not None and again.found.intervention is not None:
        same = same and torch.equal(first.intervention.theta(), again.intervention.theta())
    use = "draw from a generator made of setting.seed"
    require(same, f"two fits with the same seed differ: {use}, and keep nothing for the next fit")
    require(not drew, f"it changes the global random state of {drew}: {use}")


def _drawing(case: Case, start: int) -> tuple[Fit, str]:
    """A fit with seed 5 when global random states begin at `start`, and whose states it changes."""
    model = case.fits["gpt2"].model
    with seeded(start):
        before = _random_states()
        found = case.fit(model, seed=5)
        after = _random_states()
    return found, ", ".join(name for name in before if before[name] != after[name])


def _random_states() -> dict[str, Any]:
    return {
        "torch": torch.random.get_rng_state().tolist(),
        "Python": random.getstate(),
        "numpy": str(np.random.get_state()),
    }


@needs(check_seed)
def check_bfloat16(case: Case) -> None:
    """a bfloat16 model gives fp32 scores, near those of the fp32 model"""
    _, grid, found = case.fits["llama"]
    rough = case.fit(tiny_subject("llama", torch.bfloat16)).found.scores
    require(rough.dtype == torch.float32, "scores of a bfloat16 model have to be float32")
    exact, rough = found.scores[grid.included], rough[grid.included]
    require(bool(torch.isfinite(rough).all()), "scores of a bfloat16 model hold NaN or infinity")
    if torch.allclose(rough, exact, rtol=0.1):  # constant scores too, which correlate with nothing
        return
    require(
        float(rough.std()) > 0 and float(exact.std()) > 0,
        "either the scores of a bfloat16 model or those in fp32 are all the same, not both",
    )
    correlation = float(torch.corrcoef(torch.stack([exact, rough]))[0, 1])
    require(
        correlation > 0.9,
        f"scores of a bfloat16 model correlate {correlation:.2f} with those in fp32: sum in fp32",
    )


@needs(check_seed)
def check_grad_mode(case: Case) -> None:
    """it gives the same scores within no_grad and inference_mode"""
    model, grid, expected = case.fits["gpt2"]
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), left_as_found(model):
            fit = case.fit(model)  # the grid's tensors are made within the mode too
            edit = fit.intervention.at(torch.ones(N_PROMPTS))
            logits = model.logits(tiny_prompts().tokens, edit)
        require(
            torch.equal(expected.scores[grid.included], fit.found.scores[grid.included]),
            f"within {mode.__name__} the scores are others",
        )
        require(bool(torch.isfinite(logits).all()), "steered logits hold NaN or infinity")


@needs(check_scores, check_left_as_found)
def check_beta_zero(case: Case) -> None:
    """at beta = 0 the logits are identical, at beta = 1 they are not, on six architectures"""
    for architecture, fit in case.fits.items():
        check_strengths(fit.model, tiny_prompts().tokens, fit.intervention, f"on {architecture}")


@needs(check_fit)
def check_trained(case: Case) -> None:
    """a method gives an intervention, or steps and their reach, exactly if it says so"""
    found, trained = case.fits["gpt2"].found, case.method.trained
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
