"""The training loop: its gradient against finite differences, its steps against Adam by hand."""

from typing import Any

import numpy as np
import pytest
import torch

from methods.core.dynamic_scaling import DynamicScaling
from methods.core.objective import Objective
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from methods.core.subject import SubjectModel
from methods.core.training import Trace, TrainingDivergedError, train
from tests.methods.core.test_objective import loop_e, loop_f
from tests.methods.lens import full_logits
from tests.methods.small import apart, grid_of, make, prompts, subject

OBJECTIVE = Objective(margin=2.0, lambda_f=0.7, lambda_m=0.05)
KINDS = (StaticScaling, SteeringVectors, DynamicScaling)


def run(
    model: SubjectModel,
    intervention: Any,
    some: Prompts,
    objective: Any = OBJECTIVE,
    **settings: Any,
) -> Trace:
    """`train` with the settings of these tests."""
    chosen = {"learning_rate": 1e-2, "epochs": 1, "batch_size": None, "seed": 0, **settings}
    return train(model, intervention, some, objective, **chosen)


class Recorder(torch.optim.Adam):
    """Adam that keeps the gradients and the parameters that it was given."""

    gradients: list[torch.Tensor]

    def step(self, closure: Any = None) -> Any:
        (theta,) = self.param_groups[0]["params"]
        self.gradients.append(theta.grad.clone())
        return super().step(closure)


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The gradient of -Psi at every step of what is trained."""
    found: list[torch.Tensor] = []
    monkeypatch.setattr(Recorder, "gradients", found, raising=False)
    monkeypatch.setattr(torch.optim, "Adam", Recorder)
    return found


def alphas(grid: PointGrid, size: float = 0.3) -> torch.Tensor:
    """Random scalars; training happens in place, so ask again for the ones before it."""
    return size * torch.randn(grid.shape, generator=torch.Generator().manual_seed(1))


def logits_by_hand(model: SubjectModel, some: Prompts, grid: PointGrid, alpha: Any) -> Any:
    """Logits of a run scaled through TransformerLens's hooks (sites without resid_mid)."""
    hooks = []
    for s, site in enumerate(grid.sites):
        for layer in range(grid.n_layers):
            factor = torch.ones(some.n_positions, dtype=torch.float64)
            for p, position in enumerate(grid.positions):
                if grid.included[s, layer, p]:
                    factor[position] += float(alpha[s, layer, p])
            name = f"blocks.{layer}.hook_{site}"
            hooks.append((name, lambda h, hook, factor=factor: h * factor[:, None].to(h.dtype)))
    return full_logits(model, some.tokens, hooks)[:, -1].double().numpy()


def psi_by_hand(
    model: SubjectModel, some: Prompts, grid: PointGrid, alpha: Any, objective: Objective
) -> float:
    """Eq. 9, by the loops of Eq. 6 and 7."""
    original = full_logits(model, some.tokens)[:, -1].double().numpy()
    plus, minus = (logits_by_hand(model, some, grid, sign * alpha) for sign in (1, -1))
    e = loop_e(plus, minus, some.answers, some.foils, objective.margin)
    size = sum(abs(float(a)) for a in alpha[grid.included])
    return e + objective.lambda_f * loop_f(plus, minus, original) - objective.lambda_m * size


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
def test_gradient_is_the_finite_difference_of_psi(
    architecture: str, gradients: list[torch.Tensor]
) -> None:
    model, some = subject(architecture, torch.float64), prompts()
    grid = grid_of(model, ["attn_out", "resid_post"], [3, 6])
    alpha = alphas(grid)
    trace = run(model, StaticScaling(grid, alphas(grid)), some)
    assert trace.psi[0] == pytest.approx(psi_by_hand(model, some, grid, alpha, OBJECTIVE), rel=1e-5)
    expected = torch.zeros(grid.shape)
    for point in grid.included.nonzero().tolist():
        values = []
        for step in (1e-3, -1e-3):
            moved = alpha.clone()
            moved[tuple(point)] += step
            values.append(psi_by_hand(model, some, grid, moved, OBJECTIVE))
        expected[tuple(point)] = (values[0] - values[1]) / 2e-3
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(-gradients[0], expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_give_the_full_gradient(kind: Any, gradients: list[torch.Tensor]) -> None:
    some = prompts(5)
    for rows in (500, 4, 1):
        model = subject(rows_per_forward=rows)
        intervention = make(kind, grid_of(model), 1, 0.1)
        run(model, intervention, some)
        assert model.passes.backward == 2 * len(some)
        assert model.passes.forward == 3 * len(some)
    assert gradients[0].abs().max() > 0.01
    assert apart(gradients[0], gradients[1]) < 1e-5
    assert apart(gradients[0], gradients[2]) < 1e-5


def test_minibatches_average_to_the_full_gradient(gradients: list[torch.Tensor]) -> None:
    model, some = subject(), prompts(6)
    grid = grid_of(model)
    for batch_size in (None, 6, 2):
        # A learning rate so small that all minibatches are taken at the same place.
        scaling = StaticScaling(grid, alphas(grid))
        trace = run(model, scaling, some, batch_size=batch_size, learning_rate=1e-9)
        assert trace.steps == (3 if batch_size == 2 else 1)
    full, shuffled, *parts = gradients
    assert apart(full, shuffled) < 1e-5
    assert apart(full, torch.stack(parts).mean(dim=0)) < 1e-5
    assert apart(parts[0], parts[1]) > 1e-3


def test_steps_are_adam_at_a_constant_rate(gradients: list[torch.Tensor]) -> None:
    """Kingma and Ba's algorithm 1, with beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8."""
    model, some = subject(), prompts()
    grid = grid_of(model, ["attn_out"])
    scaling = StaticScaling(grid, alphas(grid))
    theta = scaling.alpha.detach().double().numpy()
    trace = run(model, scaling, some, epochs=5)
    assert trace.steps == len(gradients) == 5
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, tensor in enumerate(gradients, start=1):
        g = tensor.double().numpy()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        theta = theta - 1e-2 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    assert apart(scaling.alpha.detach(), torch.from_numpy(theta)) < 1e-5


def test_an_absurd_learning_rate_is_noticed() -> None:
    model = subject("llama")
    own = make(SteeringVectors, grid_of(model), 1, 0.1)
    words = r"epoch \d+ of 25\. A learning rate below 1e\+37"
    with pytest.raises(TrainingDivergedError, match=words):
        run(model, own, prompts(), epochs=25, learning_rate=1e37)


def test_a_last_step_that_diverges_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No epoch follows whose objective could tell."""

    class Diverging(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            super().step(closure)
            self.param_groups[0]["params"][0].data[0, 1, 2] = float("nan")

    monkeypatch.setattr(torch.optim, "Adam", Diverging)
    model = subject()
    grid = grid_of(model, ["attn_out"])
    with pytest.raises(TrainingDivergedError, match="the last of 1 steps made a parameter NaN"):
        run(model, StaticScaling(grid, alphas(grid)), prompts())
