"""What every method has to keep, checked on tiny models of six architectures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, fields
from typing import Any, ClassVar

import torch

from bench.conformance.check import NotConformingError, check_line, require
from bench.conformance.left import left_as_found
from bench.conformance.small import N_PROMPTS, grid_on, tiny_prompts, tiny_subject
from bench.contracts import lacks_of_method
from bench.models.tiny import ARCHITECTURES
from methods import METHODS
from methods.core.intervention import Intervention
from methods.core.objective import Objective
from methods.core.points import ALL_SITES, PointGrid
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.method import Attribution, Setting
from tasks.registry import configure, lookup


class Case:
    """A method with its default settings, and what is done with it again and again."""

    parents: ClassVar[Mapping[str, str]] = {"of": "grad_scalar"}
    """Settings without a default that name another method."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entry = lookup(METHODS, name, "method")
        self.kind: type[Any] = self.entry.load()
        lacks = "; ".join(lacks_of_method(self.kind))
        require(not lacks, lacks)
        known = {field.name for field in fields(self.kind)}
        settings = {key: value for key, value in self.parents.items() if key in known}
        self.method: Any = configure(self.kind, settings, f'method "{name}"')

    def sites(self, model: SubjectModel) -> list[str]:
        """The sites that both the method and the model have."""
        return sorted(site.value for site in self.method.sites & model.sites)

    def grid(self, model: SubjectModel) -> PointGrid:
        """Every site that both have, every position."""
        return grid_on(model, self.sites(model))

    def fit(self, model: SubjectModel, grid: PointGrid | None = None, seed: int = 0) -> Attribution:
        """A fit on the same prompts; a method with a parent gets scores."""
        grid = grid or self.grid(model)
        parent = None
        if self.method.parent is not None:
            parent = torch.randn(grid.shape, generator=torch.Generator().manual_seed(99))
        found = self.method.fit(model, tiny_prompts(), grid, Setting(Objective(), seed, parent))
        require(isinstance(found, Attribution), "fit has to return a methods.method.Attribution")
        return found  # type: ignore[no-any-return]

    def intervention(self, found: Attribution, grid: PointGrid) -> Intervention:
        """What the suite steers with."""
        return found.intervention or StaticScaling.from_scores(grid, found.scores)


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


def check_scores(case: Case) -> None:
    """scores are finite, of the grid's shape, and not all 0, on six architectures"""
    for architecture in ARCHITECTURES:
        model = tiny_subject(architecture)
        if not case.sites(model):
            continue
        grid = case.grid(model)
        found = case.fit(model, grid)
        where = f"on {architecture}: "
        require(
            found.scores.shape == grid.shape,
            f"{where}scores have shape {tuple(found.scores.shape)}; (place, layer, position) of "
            f"the grid is {grid.shape}",
        )
        require(found.scores.dtype == torch.float32, f"{where}scores have to be float32")
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


def check_positions(case: Case) -> None:
    """it takes any site and any positions"""
    model = tiny_subject("gemma3")
    sites = case.sites(model)
    require(sites, "it has no site in common with Gemma 3")
    grid = grid_on(model, sites[:1], [2, -1])
    found = case.fit(model, grid)
    require(
        found.scores.shape == grid.shape,
        f"for one site and two positions scores have shape {tuple(found.scores.shape)}, not "
        f"{grid.shape}: use grid.positions, not all positions of the prompt",
    )


def check_bfloat16(case: Case) -> None:
    """a bfloat16 model gives fp32 scores, near those of the fp32 model"""
    exact, rough = tiny_subject("llama"), tiny_subject("llama", torch.bfloat16)
    grid = case.grid(exact)
    one, other = case.fit(exact, grid), case.fit(rough, grid)
    require(other.scores.dtype == torch.float32, "scores of a bfloat16 model have to be float32")
    pair = torch.stack([one.scores[grid.included], other.scores[grid.included]])
    require(bool(torch.isfinite(pair).all()), "scores of a bfloat16 model hold NaN or infinity")
    correlation = float(torch.corrcoef(pair)[0, 1])
    require(
        correlation > 0.9,
        f"scores of a bfloat16 model correlate {correlation:.2f} with those in fp32: sum in fp32",
    )


def check_seed(case: Case) -> None:
    """the same seed gives the same scores, whatever the global random state"""
    model = tiny_subject()
    included = case.grid(model).included
    first = case.fit(model, seed=5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        again = case.fit(model, seed=5)
    same = torch.equal(first.scores[included], again.scores[included])
    if first.intervention is not None and again.intervention is not None:
        same = same and torch.equal(first.intervention.theta(), again.intervention.theta())
    require(same, "two fits with the same seed differ: draw from a generator made of setting.seed")


def check_left_as_found(case: Case) -> None:
    """the model, its hooks, the grad mode and the random state are left as found"""
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


def check_grad_mode(case: Case) -> None:
    """it gives the same scores within no_grad and inference_mode"""
    model = tiny_subject()
    expected = case.fit(model)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), left_as_found(model):
            grid = case.grid(model)
            found = case.fit(model, grid)
            intervention = case.intervention(found, grid)
            logits = model.logits(tiny_prompts().tokens, intervention.at(torch.ones(N_PROMPTS)))
        included = case.grid(model).included
        require(
            torch.equal(expected.scores[included], found.scores[included]),
            f"within {mode.__name__} the scores are others",
        )
        require(bool(torch.isfinite(logits).all()), "steered logits hold NaN or infinity")


def check_beta_zero(case: Case) -> None:
    """at beta = 0 the logits are identical, at beta = 1 they are not, on six architectures"""
    for architecture in ARCHITECTURES:
        model = tiny_subject(architecture)
        if not case.sites(model):
            continue
        grid, tokens = case.grid(model), tiny_prompts().tokens
        intervention = case.intervention(case.fit(model, grid), grid)
        with torch.no_grad():
            plain = model.logits(tokens)
            zero, one = (
                model.logits(tokens, intervention.at(torch.full((N_PROMPTS,), beta)))
                for beta in (0.0, 1.0)
            )
        require(torch.equal(plain, zero), f"on {architecture}: beta = 0 changes the logits")
        require(not torch.equal(plain, one), f"on {architecture}: beta = 1 changes nothing")


def check_trained(case: Case) -> None:
    """a trained method gives an intervention, its steps and their reach; no other one does"""
    found = case.fit(tiny_subject())
    trained = case.method.trained
    require(
        (found.intervention is not None) == trained,
        "a method gives an intervention exactly if it says `trained = True`",
    )
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


def check_prompts(case: Case) -> None:
    """it does not change its prompts or its parent's scores"""
    model, prompts = tiny_subject(), tiny_prompts()
    grid = case.grid(model)
    ascending = torch.arange(float(grid.included.numel())).reshape(grid.shape)
    parent = ascending.clone() if case.method.parent else None
    case.method.fit(model, prompts, grid, Setting(Objective(), 0, parent))
    for part in ("tokens", "corrupted", "answers", "foils"):
        require(
            torch.equal(getattr(prompts, part), getattr(tiny_prompts(), part)),
            f"it changes prompts.{part}",
        )
    require(parent is None or torch.equal(parent, ascending), "it changes its parent's scores")


CHECKS: tuple[Callable[[Case], None], ...] = (
    check_entry,
    check_dataclass,
    check_scores,
    check_positions,
    check_bfloat16,
    check_seed,
    check_left_as_found,
    check_left_as_found_when_broken,
    check_grad_mode,
    check_beta_zero,
    check_trained,
    check_prompts,
)
"""Every check; its docstring is what it makes sure of, in words."""
