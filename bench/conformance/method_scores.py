"""What a method's scores have to be, whatever the model, the dtype and the seed."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from bench.conformance.check import needs, require
from bench.conformance.method_case import Case, check_fit
from bench.conformance.method_leaves import check_left_as_found
from bench.conformance.small import N_PROMPTS, grid_on, tiny_prompts, tiny_subject
from bench.conformance.unchanged import left_as_found
from bench.execution.unchanged import modes_kept
from methods.method import Attribution


@needs(check_fit)
def check_scores(case: Case) -> None:
    """scores are finite, of the grid's shape, and not all 0, on six architectures"""
    for architecture in case.architectures:
        (grid, found), where = case.found(architecture), f"on {architecture}: "
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


@needs(check_fit)
def check_positions(case: Case) -> None:
    """it takes any site and any positions"""
    model = tiny_subject("gemma3")
    sites = case.sites(model)
    require(sites, "it has no site in common with Gemma 3")
    grid = grid_on(model, sites[:1], [2, -1])
    with modes_kept():
        found = case.fit(model, grid)
    require(
        found.scores.shape == grid.shape,
        f"for one site and two positions scores have shape {tuple(found.scores.shape)}, not "
        f"{grid.shape}: use grid.positions, not all positions of the prompt",
    )


@needs(check_scores, check_left_as_found)
def check_seed(case: Case) -> None:
    """the same seed gives the same scores, and the global random state has no part in it"""
    with torch.random.fork_rng(devices=[]):
        state = random.getstate(), np.random.get_state()
        try:
            first, drew = _drawing(case, 1)
            again, _ = _drawing(case, 2)
        finally:
            random.setstate(state[0])
            np.random.set_state(state[1])
    included = case.found("gpt2")[0].included
    same = torch.equal(first.scores[included], again.scores[included])
    if first.intervention is not None and again.intervention is not None:
        same = same and torch.equal(first.intervention.theta(), again.intervention.theta())
    use = "draw from a generator made of setting.seed"
    require(same, f"two fits with the same seed differ: {use}, and keep nothing for the next fit")
    require(not drew, f"it changes the global random state of {drew}: {use}")


def _drawing(case: Case, start: int) -> tuple[Attribution, str]:
    """A fit with seed 5 when global random states begin at `start`, and whose states it changes."""
    model = tiny_subject()
    torch.manual_seed(start)
    random.seed(start)
    np.random.seed(start)
    before = _random_states()
    with modes_kept():
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
    model = tiny_subject("llama", torch.bfloat16)
    grid, found = case.found("llama")
    with modes_kept():
        rough = case.fit(model).scores
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
    grid, expected = case.found("gpt2")
    included = grid.included
    for mode in (torch.no_grad, torch.inference_mode):
        model = tiny_subject()
        with mode(), left_as_found(model):
            own = case.grid(model)  # its tensors are made within the mode too
            found = case.fit(model, own)
            intervention = case.intervention(found, own)
            logits = model.logits(tiny_prompts().tokens, intervention.at(torch.ones(N_PROMPTS)))
        require(
            torch.equal(expected.scores[included], found.scores[included]),
            f"within {mode.__name__} the scores are others",
        )
        require(bool(torch.isfinite(logits).all()), "steered logits hold NaN or infinity")
