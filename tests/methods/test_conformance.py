"""What holds for every method in METHODS: a new line there gets all of this for free."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import FrozenInstanceError, dataclass, fields, is_dataclass
from typing import Any

import pytest
import torch

from methods import METHODS
from methods.core.intervention import (
    DynamicScaling,
    Intervention,
    StaticScaling,
    SteeringVectors,
)
from methods.core.points import ALL_SITES, PointGrid, Site
from methods.core.subject import SubjectModel
from methods.method import Attribution, Method
from tasks.registry import configure
from tests.methods.small import grid_of, largest_difference, prompts, setting, subject
from tests.tiny import ARCHITECTURES

NAMES = tuple(METHODS)
every_method = pytest.mark.parametrize("name", NAMES)


def method_named(name: str) -> Any:
    """The method with its default settings; one that starts from another's scores is told whose."""
    cls = METHODS[name].load()
    required = {"of": "grad_scalar"} if "of" in {field.name for field in fields(cls)} else {}
    return configure(cls, required, f'method "{name}"')


def grid_for(method: Method, model: SubjectModel) -> PointGrid:
    """Every site that both the method and the model have, every position."""
    return grid_of(model, sorted(method.sites & model.sites))


def fit(
    method: Method, model: SubjectModel, grid: PointGrid | None = None, seed: int = 0
) -> Attribution:
    """A fit on the same prompts; a method with a parent gets scores."""
    grid = grid or grid_for(method, model)
    parent = None
    if method.parent is not None:
        parent = torch.randn(grid.shape, generator=torch.Generator().manual_seed(99))
    return method.fit(model, prompts(), grid, setting(seed, parent))


def intervention_of(found: Attribution, grid: PointGrid) -> Intervention:
    """What the suite steers with."""
    return found.intervention or StaticScaling.from_scores(grid, found.scores)


def test_targets_are_there_once() -> None:
    targets = [entry.target for entry in METHODS.values()]
    assert len(set(targets)) == len(targets)
    assert all(issubclass(entry.load(), Method) for entry in METHODS.values())


def test_listing_imports_nothing_heavy() -> None:
    code = "import sys, methods; print({'torch', 'transformer_lens', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@every_method
def test_the_entry_is_readable(name: str) -> None:
    summary = METHODS[name].summary
    assert name == name.lower()
    assert name.isidentifier()
    assert summary == summary.strip() != ""
    assert "\n" not in summary
    assert len(summary) <= 90
    assert METHODS[name].load().__doc__


@every_method
def test_it_is_a_frozen_dataclass_with_defaults(name: str) -> None:
    method = method_named(name)
    assert is_dataclass(method)
    with pytest.raises(FrozenInstanceError):
        method.some_state = 1
    assert method == method_named(name)
    assert method.sites <= ALL_SITES
    assert method.sites


@every_method
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_finite_and_of_the_grids_shape(name: str, architecture: str) -> None:
    method, model = method_named(name), subject(architecture)
    grid = grid_for(method, model)
    found = fit(method, model, grid)
    assert found.scores.shape == grid.shape
    assert found.scores.dtype == torch.float32
    assert not found.scores.requires_grad
    assert bool(torch.isfinite(found.scores[grid.included]).all())
    assert found.scores[grid.included].abs().max() > 0
    if found.prompt_scores is not None:
        assert found.prompt_scores.shape == (3, *grid.shape)
        mean = found.prompt_scores.mean(dim=0)[grid.included]
        assert largest_difference(mean, found.scores[grid.included]) < 1e-5
    assert all(isinstance(note, str) for note in found.notes)
    assert all(torch.is_tensor(extra) for extra in found.extras.values())


@every_method
def test_it_takes_a_grid_of_any_positions(name: str) -> None:
    method, model = method_named(name), subject("gemma3")
    grid = grid_of(model, ["attn_out"], [2, -1])
    assert fit(method, model, grid).scores.shape == (1, 3, 2)


@every_method
def test_bfloat16_models_give_fp32_scores(name: str) -> None:
    method, model = method_named(name), subject("llama", torch.bfloat16)
    grid = grid_for(method, model)
    found = fit(method, model, grid)
    assert found.scores.dtype == torch.float32
    assert bool(torch.isfinite(found.scores[grid.included]).all())
    assert found.scores[grid.included].abs().max() > 0
    exact = fit(method, subject("llama"), grid).scores[grid.included]
    rough = found.scores[grid.included]
    assert float(torch.corrcoef(torch.stack([exact, rough]))[0, 1]) > 0.9


@every_method
def test_same_seed_same_scores(name: str) -> None:
    method, model = method_named(name), subject()
    first = fit(method, model, seed=5)
    torch.manual_seed(123)
    torch.rand(7)
    again = fit(method, model, seed=5)
    included = grid_for(method, model).included
    assert torch.equal(first.scores[included], again.scores[included])
    if first.intervention is not None:
        assert again.intervention is not None
        assert torch.equal(first.intervention.theta(), again.intervention.theta())


@dataclass
class State:
    """What a fit has to leave as it found it."""

    weights: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]
    flags: Any

    @staticmethod
    def of(model: SubjectModel) -> "State":
        bridge = model.bridge
        modules = list(bridge.named_modules()) + list(bridge.original_model.named_modules())
        hooks = {
            name: (
                len(module._forward_hooks),
                len(module._forward_pre_hooks),
                len(module._backward_hooks),
                len(getattr(module, "fwd_hooks", [])),
                len(getattr(module, "bwd_hooks", [])),
                module.training,
            )
            for name, module in modules
        }
        parameters = dict(bridge.original_model.named_parameters())
        return State(
            {name: parameter.detach().clone() for name, parameter in parameters.items()},
            {name: b.clone() for name, b in bridge.original_model.named_buffers()},
            (
                hooks,
                {name: (p.requires_grad, p.grad is None) for name, p in parameters.items()},
                torch.is_grad_enabled(),
                torch.is_inference_mode_enabled(),
                torch.get_default_dtype(),
                torch.are_deterministic_algorithms_enabled(),
                torch.random.get_rng_state().tolist(),
                sorted(vars(bridge)),
                vars(bridge.cfg).copy(),
            ),
        )


@contextmanager
def left_as_found(model: SubjectModel) -> Iterator[None]:
    before = State.of(model)
    yield
    after = State.of(model)
    assert before.flags == after.flags
    for ours, theirs in ((before.weights, after.weights), (before.buffers, after.buffers)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@every_method
@pytest.mark.parametrize("architecture", ["gpt2", "gemma2"])
def test_the_model_is_left_as_found(name: str, architecture: str) -> None:
    model = subject(architecture)
    some = prompts()
    before = model.unsteered_logits(some.tokens)
    with left_as_found(model):
        fit(method_named(name), model)
    assert torch.equal(before, model.unsteered_logits(some.tokens))
    points = model.bridge.hook_dict.values()
    assert not any(point.fwd_hooks or point.bwd_hooks for point in points)


class BrokenError(Exception):
    """What goes wrong in the middle of a run."""


@every_method
@pytest.mark.parametrize("at", [1, 2, 3])
def test_the_model_is_left_as_found_by_a_fit_that_breaks(name: str, at: int) -> None:
    """The forward numbered `at` dies in the last layer, when all hooks have been at work."""
    model, calls = subject(), []
    available = forwards(name)

    def die(module: Any, args: Any, output: Any) -> None:
        calls.append(1)
        if len(calls) == at:
            raise BrokenError

    with left_as_found(model):
        handle = model.bridge.blocks[-1].mlp.register_forward_hook(die)
        try:
            # A method without so many forwards has nothing that could break.
            with pytest.raises(BrokenError) if available >= at else nullcontext():
                fit(method_named(name), model)
        finally:
            handle.remove()
    assert len(calls) == min(at, available)


def forwards(name: str) -> int:
    """Forwards that a fit runs, counted by calls of the last layer's MLP, three at most."""
    model, calls = subject(), []
    handle = model.bridge.blocks[-1].mlp.register_forward_hook(lambda *_: calls.append(1))
    try:
        fit(method_named(name), model)
    finally:
        handle.remove()
    return min(3, len(calls))


@every_method
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_grad_mode_does_not_matter(name: str, mode: Any) -> None:
    """Everything is made inside the mode, the grid among it."""
    method, model = method_named(name), subject()
    expected = fit(method, model)
    with mode(), left_as_found(model):
        grid = grid_for(method, model)
        found = fit(method, model, grid)
        logits = model.logits(prompts().tokens, intervention_of(found, grid).at(torch.ones(3)))
    included = grid_for(method, model).included
    assert torch.equal(expected.scores[included], found.scores[included])
    assert bool(torch.isfinite(logits).all())


@every_method
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_beta_zero_leaves_the_logits_identical(name: str, architecture: str) -> None:
    method, model = method_named(name), subject(architecture)
    grid, some = grid_for(method, model), prompts()
    intervention = intervention_of(fit(method, model, grid), grid)
    with torch.no_grad():
        plain = model.logits(some.tokens)
        zero, one = (
            model.logits(some.tokens, intervention.at(torch.full((3,), beta)))
            for beta in (0.0, 1.0)
        )
    assert torch.equal(plain, zero)
    assert not torch.equal(plain, one)


@every_method
def test_theta_has_the_documented_number_of_parameters(name: str) -> None:
    method, model = method_named(name), subject()
    grid = grid_for(method, model)
    found = fit(method, model, grid)
    intervention = intervention_of(found, grid)
    # Values and weighted values are as wide as a head; all else is as wide as the stream.
    widths = torch.tensor([8 if place.site in (Site.V, Site.Z) else 32 for place in grid.places])
    expected = {
        StaticScaling: grid.n_points,
        SteeringVectors: int((grid.included * widths[:, None, None]).sum()),
        DynamicScaling: int(widths.sum()) * grid.n_layers,
    }
    assert intervention.theta().shape == (expected[type(intervention)],)
    assert intervention.masked(torch.ones_like(intervention.magnitudes())).theta().shape == (
        intervention.theta().shape
    )


@every_method
def test_trained_means_an_intervention_and_its_steps(name: str) -> None:
    method = method_named(name)
    found = fit(method, subject())
    assert (found.intervention is not None) == method.trained
    assert (found.steps > 0) == method.trained
    assert (found.reach is not None) == method.trained
    assert not (method.trained and method.control)


@every_method
def test_it_does_not_change_its_prompts(name: str) -> None:
    method, model, some = method_named(name), subject(), prompts()
    grid = grid_for(method, model)
    ascending = torch.arange(float(grid.included.numel())).reshape(grid.shape)
    parent = ascending.clone() if method.parent else None
    method.fit(model, some, grid, setting(0, parent))
    for part in ("tokens", "corrupted", "answers", "foils"):
        assert torch.equal(getattr(some, part), getattr(prompts(), part))
    assert parent is None or torch.equal(parent, ascending)
