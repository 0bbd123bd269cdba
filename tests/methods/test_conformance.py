"""What holds for every method in METHODS: a new line there gets all of this for free.

The checks are those of `python -m bench check NAME`, in `bench/conformance/`.
"""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.conformance.check import NotConformingError
from bench.conformance.methods import (
    CHECKS,
    Case,
    check_beta_zero,
    check_bfloat16,
    check_grad_mode,
    check_left_as_found,
    check_left_as_found_when_broken,
    check_scores,
    check_seed,
    check_trained,
)
from bench.conformance.small import tiny_subject
from bench.conformance.unchanged import left_as_found
from methods import METHODS
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.points import NARROW_SITES
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from methods.grad_scalar import GradScalar
from methods.method import Method

NAMES = tuple(METHODS)
every_method = pytest.mark.parametrize("name", NAMES)


def test_targets_are_there_once() -> None:
    targets = [entry.target for entry in METHODS.values()]
    assert len(set(targets)) == len(targets)
    assert all(issubclass(entry.load(), Method) for entry in METHODS.values())


def test_listing_imports_nothing_heavy() -> None:
    code = "import sys, methods; print({'torch', 'transformer_lens', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    """A method's fits are shared by its checks."""
    return {name: Case(name) for name in NAMES}


@every_method
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_it_conforms(name: str, check: Callable[[Case], None], cases: dict[str, Case]) -> None:
    check(cases[name])


@every_method
def test_theta_has_the_documented_number_of_parameters(name: str) -> None:
    case, model = Case(name), tiny_subject()
    grid = case.grid(model)
    intervention = case.intervention(case.fit(model, grid), grid)
    # Queries, keys and (weighted) values are as wide as a head; all else is as wide as the stream.
    widths = torch.tensor([8 if place.site in NARROW_SITES else 32 for place in grid.places])
    expected = {
        StaticScaling: grid.n_points,
        SteeringVectors: int((grid.included * widths[:, None, None]).sum()),
        DynamicScaling: int(widths.sum()) * grid.n_layers,
    }
    assert intervention.theta().shape == (expected[type(intervention)],)


def spoilt(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Any, Any], Any]) -> Case:
    """GradScalar, whose fit is followed by what `spoil` does to (model, attribution)."""
    real = GradScalar.fit

    def fit(self: Any, model: Any, *rest: Any) -> Any:
        return spoil(model, real(self, model, *rest))

    monkeypatch.setattr(GradScalar, "fit", fit)
    return Case("grad_scalar")


def test_the_checks_notice_scores_that_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def double(model: Any, found: Any) -> Any:
        found.scores.mul_(2)
        return found

    with pytest.raises(NotConformingError, match="mean of prompt_scores"):
        check_scores(spoilt(monkeypatch, double))

    def nothing(model: Any, found: Any) -> Any:
        found.scores.zero_()
        found.prompt_scores.zero_()
        return found

    with pytest.raises(NotConformingError, match="every score is 0"):
        check_scores(spoilt(monkeypatch, nothing))
    with pytest.raises(NotConformingError, match="beta = 1 changes nothing"):
        check_beta_zero(spoilt(monkeypatch, nothing))

    def noise(model: Any, found: Any) -> Any:
        found.scores.add_(torch.rand_like(found.scores))
        return found

    with pytest.raises(NotConformingError, match="same seed differ"):
        check_seed(spoilt(monkeypatch, noise))
    with pytest.raises(NotConformingError, match="sum in fp32"):
        check_bfloat16(spoilt(monkeypatch, lambda m, f: noise(m, f) if "b" in str(m.dtype) else f))


def test_the_checks_notice_a_trained_method_without_an_intervention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(GradScalar, "trained", True)
    with pytest.raises(NotConformingError, match="trained = True"):
        check_trained(Case("grad_scalar"))


def change_weight(model: Any) -> None:
    with torch.no_grad():
        next(iter(model.bridge.original_model.parameters())).view(-1)[0] += 0.001


def leave_hook(model: Any) -> None:
    model.bridge.blocks[0].mlp.register_forward_hook(lambda *_: None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_weight, r"weights \(embed.weight\)"),
        (leave_hook, r"hooks \(blocks.0.mlp\)"),
        (lambda model: model.bridge.train(), "train mode"),
    ],
)
def test_the_checks_notice_what_is_left_behind(change: Callable[[Any], None], words: str) -> None:
    model = tiny_subject()
    with pytest.raises(NotConformingError, match=words), left_as_found(model):
        change(model)


def test_the_checks_notice_a_swallowed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    real = GradScalar.fit

    def fit(self: Any, *rest: Any) -> Any:
        try:
            return real(self, *rest)
        except Exception:
            return None

    monkeypatch.setattr(GradScalar, "fit", fit)
    with pytest.raises(NotConformingError, match=r"swallowed|return a methods"):
        check_left_as_found_when_broken(Case("grad_scalar"))


def test_the_checks_notice_a_fit_that_needs_its_callers_grad_mode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spoil(model: Any, found: Any) -> Any:
        if not torch.is_grad_enabled():
            found.scores.add_(1)
        return found

    with pytest.raises(NotConformingError, match="within no_grad"):
        check_grad_mode(spoilt(monkeypatch, spoil))
    check_left_as_found(Case("dla"))
