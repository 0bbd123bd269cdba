"""What holds for every method in METHODS: a new line there gets all of this for free.

The checks are those of `python -m bench check NAME`, in `bench/conformance/`.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.conformance import method_case
from bench.conformance import methods as conformance
from bench.conformance.check import NotConformingError, run_checks
from bench.conformance.method_case import Case
from bench.conformance.methods import CHECKS
from bench.conformance.small import grid_on
from bench.models.tiny import ARCHITECTURES
from methods import METHODS
from methods.core.channel_scaling import ChannelScaling
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.gated_editing import GatedEditing
from methods.core.points import NARROW_SITES
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from methods.grad_scalar import GradScalar
from methods.method import Method
from tests.methods.small import subject


def test_targets_are_there_once() -> None:
    targets = [entry.target for entry in METHODS.values()]
    assert len(set(targets)) == len(targets)
    assert all(issubclass(entry.load(), Method) for entry in METHODS.values())


@pytest.mark.parametrize("name", METHODS)
def test_it_conforms_and_theta_has_the_documented_number_of_parameters(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On models that all methods share: one check is that each leaves them as they were."""
    for module in (conformance, method_case):
        monkeypatch.setattr(module, "tiny_subject", subject)
    monkeypatch.setattr(method_case, "grid_on", lambda *of: grid_on(*of, [0, 2, 4, 6]))
    monkeypatch.setattr(Case, "given", {"epochs": 4, "steps": 3, "samples": 3})
    case = Case(name)
    found = list(run_checks(lambda: case, CHECKS))
    assert [outcome for outcome in found if outcome.problem] == []
    assert len(found) == len(CHECKS)
    assert tuple(case.fits) == ARCHITECTURES
    _, grid, _ = fit = case.fits["gpt2"]
    # Queries, keys and (weighted) values are as wide as a head; all else as the stream.
    widths = torch.tensor([8 if place.site in NARROW_SITES else 32 for place in grid.places])
    expected = {
        StaticScaling: grid.n_points,
        SteeringVectors: int((grid.included * widths[:, None, None]).sum()),
        ChannelScaling: int((grid.included * widths[:, None, None]).sum()),
        GatedEditing: 2 * int((grid.included * widths[:, None, None]).sum()),
        DynamicScaling: int(widths.sum()) * grid.n_layers,
    }
    assert fit.intervention.theta().shape == (expected[type(fit.intervention)],)


@pytest.mark.parametrize("name", [name for name, it in METHODS.items() if not it.load().trained])
def test_rows_per_forward_do_not_matter(name: str) -> None:
    """What is trained sums its gradients over chunks: see `test_training.py`."""
    case, model = Case(name), subject("qwen2")
    grid = grid_on(model, case.sites(model), [6])
    together = case.fit(model, grid).found.scores
    apart = case.fit(subject("qwen2", rows_per_forward=2), grid).found.scores
    torch.testing.assert_close(apart, together, atol=1e-5, rtol=1e-5, equal_nan=True)


def spoilt(change: str) -> Callable[[Any, Any], Any]:
    """GradScalar's fit, behind which something is done to what it found."""
    real = GradScalar.fit

    def fit(self: Any, model: Any, *rest: Any) -> Any:
        found = real(self, model, *rest)
        if change == "double":
            found.scores.mul_(2)
        elif change == "nothing":
            found.scores.zero_()
            found.prompt_scores.zero_()
        elif change == "noise" or (change == "rough noise" and model.dtype is torch.bfloat16):
            found.scores.add_(torch.rand_like(found.scores))
        elif change == "grad mode" and not torch.is_grad_enabled():
            found.scores.add_(1)
        return found

    def swallow(self: Any, *rest: Any) -> Any:
        try:
            return real(self, *rest)
        except Exception:
            return None

    return swallow if change == "swallow" else fit


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        ("double", conformance.check_scores, "mean of prompt_scores"),
        ("nothing", conformance.check_scores, "every score is 0"),
        ("nothing", conformance.check_beta_zero, "beta = 1 changes nothing"),
        ("noise", conformance.check_seed, "same seed differ"),
        ("rough noise", conformance.check_bfloat16, "sum in fp32"),
        ("grad mode", conformance.check_grad_mode, "within no_grad"),
        ("swallow", conformance.check_left_as_found_when_broken, r"swallowed|return a methods"),
        ("trained", conformance.check_trained, "trained = True"),
    ],
)
def test_the_checks_notice_what_is_wrong(
    change: str, check: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(method_case, "ARCHITECTURES", ("gpt2", "llama"))
    monkeypatch.setattr(GradScalar, "fit", spoilt(change))
    monkeypatch.setattr(GradScalar, "trained", change == "trained")
    with pytest.raises(NotConformingError, match=words):
        check(Case("grad_scalar"))


def test_sizes_have_no_sign() -> None:
    needy = {"shuffled", "file_scores"}  # whose settings have no default
    methods = {name: entry.load() for name, entry in METHODS.items() if name not in needy}
    unsigned = {name for name, method in methods.items() if not method().signed}
    gates = {"hard_concrete", "uniform_gates"}
    sizes = {"steer_vec", "channel_scalar", "diff_means", "probe", "sadi", "information_flow"}
    assert unsigned == gates | sizes | {"jola"}
    assert not methods["path_gradients"](over_prompts="magnitude").signed
