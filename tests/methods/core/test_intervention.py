"""Eq. 4, 5 and 10 against plain loops, and what holds of every intervention."""

from typing import Any

import numpy as np
import pytest
import torch

from bench.models.tiny import ARCHITECTURES
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.patches import PatchedRows
from methods.core.points import HEAD_SITES, PointGrid, Site
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from methods.core.subject import SubjectModel
from tests.methods.small import (
    N_POSITIONS,
    SERIAL,
    activation,
    cache_of,
    full_logits,
    grid_of,
    in_turn,
    largest_difference,
    make,
    metric_of,
    prompts,
    subject,
)

KINDS = (StaticScaling, SteeringVectors, DynamicScaling)
D_MODEL = 32
WIDE = tuple(site for site in Site if site not in HEAD_SITES)


def parameters(intervention: Any) -> Any:
    """The parameters as an array of float64."""
    (only,) = intervention.parameters()
    return only.detach().double().numpy()


def loop_edit(intervention: Any, site: Site, layer: int, h: Any, beta: Any) -> Any:
    """Eq. 4, 5 or 10, a number at a time."""
    grid, theta = intervention.grid, parameters(intervention)
    out = h.copy()
    s = grid.sites.index(site)
    for row in range(h.shape[0]):
        for p, position in enumerate(grid.positions):
            if not grid.included[s, layer, p]:
                continue
            vector = h[row, position]
            if isinstance(intervention, SteeringVectors):
                out[row, position] = [
                    x + beta[row] * v for x, v in zip(vector, theta[s, layer, p], strict=True)
                ]
                continue
            if isinstance(intervention, StaticScaling):
                alpha = theta[s, layer, p]
            elif grid.has_bos and position == 0:
                continue  # Eq. 10 leaves the BOS alone
            else:
                norm = sum(x * x for x in vector) ** 0.5
                dot = sum(g * x for g, x in zip(theta[s, layer], vector, strict=True))
                alpha = dot / norm if norm > 0 else 0.0
            out[row, position] = [x * (1 + beta[row] * alpha) for x in vector]
    return out


def a_grid(positions: Any = (1, 3, 6)) -> PointGrid:
    """All sites, two layers; the last residual at the answer position is left out."""
    return PointGrid(WIDE, 2, tuple(positions), N_POSITIONS)


@pytest.mark.parametrize("kind", KINDS)
def test_edits_are_the_equations(kind: Any) -> None:
    grid = a_grid()
    intervention = make(kind, grid)
    generator = torch.Generator().manual_seed(1)
    h = torch.randn((3, N_POSITIONS, D_MODEL), generator=generator)
    h[1, 3] = 0
    beta = torch.tensor([1.0, -2.0, 0.5])
    for site, layer in grid.site_layers:
        found = intervention.at(beta)(site, layer, h).detach()
        expected = loop_edit(intervention, site, layer, h.double().numpy(), beta.numpy())
        assert largest_difference(found, torch.from_numpy(expected)) < 1e-5
        outside = [p for p in range(N_POSITIONS) if p not in grid.positions]
        assert torch.equal(found[:, outside], h[:, outside])
    excluded = intervention.at(beta)(Site.RESID_POST, 1, h).detach()
    assert torch.equal(excluded[:, 6], h[:, 6])
    assert not torch.equal(excluded[:, 3], h[:, 3])


def test_dynamic_scalar_of_nothing_is_zero() -> None:
    """||h|| = 0 gives alpha = 0, and a gradient that is a number."""
    scaling = make(DynamicScaling, a_grid())
    h = torch.zeros((2, N_POSITIONS, D_MODEL), requires_grad=True)
    alpha = scaling.alpha(Site.ATTN_OUT, 0, h)
    assert torch.all(alpha == 0)
    scaling.at(torch.ones(2))(Site.ATTN_OUT, 0, h).sum().backward()
    assert bool(torch.isfinite(h.grad).all())
    assert bool(torch.isfinite(scaling.gates.grad).all())


@pytest.mark.parametrize(("architecture", "kind"), in_turn(ARCHITECTURES, KINDS))
def test_beta_zero_leaves_every_bit_in_bfloat16(architecture: str, kind: Any) -> None:
    """In fp32 that is a check of every method."""
    model, some = subject(architecture, torch.bfloat16), prompts()
    intervention = make(kind, grid_of(model, keep_final_residual=True))
    with torch.no_grad():
        plain = model.logits(some.tokens)
        steered = model.logits(some.tokens, intervention.at(torch.zeros(3)))
        one = model.logits(some.tokens, intervention.at(torch.tensor([0.0, 1.0, 0.0])))
    assert torch.equal(plain, steered)
    assert torch.equal(plain[[0, 2]], one[[0, 2]])
    assert largest_difference(plain[1], one[1]) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_of_betas_is_as_many_runs(kind: Any) -> None:
    model, some = subject("gemma2"), prompts(1)
    intervention = make(kind, grid_of(model))
    beta = torch.tensor([-2.0, -1.0, 0.0, 0.25, 1.0])
    with torch.no_grad():
        together = model.logits(some.tokens.expand(5, -1), intervention.at(beta))
        for row in range(5):
            alone = model.logits(some.tokens, intervention.at(beta[row : row + 1]))
            assert largest_difference(together[row : row + 1], alone) < 1e-4
    assert largest_difference(together[0], together[4]) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_steered_run_is_the_loop_at_every_hook(kind: Any) -> None:
    """Points act together: every hook applies the equation to what the earlier ones left."""
    model, some = subject(), prompts()
    grid = grid_of(model, ["attn_out", "mlp_out", "resid_post"])
    intervention = make(kind, grid)
    beta = [1.0, -1.0, 0.5]
    hooks = []
    for site, layer in grid.site_layers:

        def by_loop(h: Any, hook: Any, site: Site = site, layer: int = layer) -> Any:
            edited = loop_edit(intervention, site, layer, h.double().numpy(), beta)
            return torch.from_numpy(edited).to(h.dtype)

        hooks.append((f"blocks.{layer}.hook_{site}", by_loop))
    expected = full_logits(model, some.tokens, hooks)[:, -1]
    with torch.no_grad():
        found = model.logits(some.tokens, intervention.at(torch.tensor(beta)))
    assert largest_difference(found, expected) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_points_left_out_do_nothing(kind: Any) -> None:
    """However large the parameter of the point that is left out."""
    model, some = subject(), prompts()
    grid = grid_of(model, ["attn_out", "resid_post"])
    quiet, loud = make(kind, grid), make(kind, grid)
    if kind is DynamicScaling:
        grid.included[1, -1] = False
        quiet, loud = make(kind, grid), make(kind, grid)
        with torch.no_grad():
            loud.gates[1, -1] = 1e3
    else:
        with torch.no_grad():
            next(loud.parameters())[1, -1, -1] = 1e3
    with torch.no_grad():
        a, b = (model.logits(some.tokens, i.at(torch.ones(3))) for i in (quiet, loud))
    assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [0, 1, 5, 10_000])
def test_the_largest_units_are_kept(kind: Any, k: int) -> None:
    grid = a_grid()
    intervention = make(kind, grid)
    full, kept = parameters(intervention), parameters(intervention.keep_largest(k))
    norms = np.linalg.norm(full, axis=-1) if kind is SteeringVectors else np.abs(full)
    taking_part = np.ones(norms.shape, bool)
    if kind is not DynamicScaling:
        taking_part = grid.included.numpy()
    ranked = sorted(norms[taking_part], reverse=True)
    least = ranked[min(k, len(ranked)) - 1] if k else np.inf
    expected = np.where(
        (taking_part & (norms >= least)).reshape(*norms.shape, *[1] * (full.ndim - norms.ndim)),
        full,
        0,
    )
    np.testing.assert_array_equal(kept, expected)
    magnitudes = intervention.magnitudes().numpy()
    np.testing.assert_allclose(sorted(magnitudes, reverse=True), ranked, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_acts_at_chosen_points_acts_there_alone_when_its_largest_are_kept(kind: Any) -> None:
    grid, beta = a_grid(), torch.ones(4)
    keep = torch.rand(grid.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    chosen = make(kind, grid).at_points(keep)
    every = chosen.keep_largest(chosen.magnitudes().numel())
    h = torch.randn((4, N_POSITIONS, D_MODEL), generator=torch.Generator().manual_seed(4))
    differs = False
    for site, layer in grid.site_layers:
        edited = chosen.at(beta)(site, layer, h)
        assert torch.equal(every.at(beta)(site, layer, h), edited)
        differs |= not torch.equal(make(kind, grid).at(beta)(site, layer, h), edited)
    assert differs
    assert chosen.on(grid) is None  # points are of this length alone


def test_scores_become_scalars_of_size_one() -> None:
    grid = a_grid()
    scores = torch.randn(grid.shape, generator=torch.Generator().manual_seed(0))
    scores[0, 1, 2] = -8.0
    scores[-1, -1, -1] = float("nan")  # left out of the grid
    alpha = StaticScaling.from_scores(grid, scores).alpha.detach()
    assert alpha[0, 1, 2] == -1
    assert alpha[-1, -1, -1] == 0
    expected = torch.where(grid.included, scores / 8, torch.zeros(()))
    assert largest_difference(alpha, expected) < 1e-7


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_numbers_are_refused(bad: float) -> None:
    scores = torch.ones(a_grid().shape)
    scores[0, 0, 0] = bad
    with pytest.raises(ValueError, match="NaN or infinite scores"):
        StaticScaling.from_scores(a_grid(), scores)


def corrupted_everywhere(model: SubjectModel, site: Site, layers: Any, some: Any) -> PatchedRows:
    """Every position of every row gets the corrupted run's activation."""
    cache = cache_of(model, some.corrupted)
    index = torch.cartesian_prod(torch.arange(len(some)), torch.arange(N_POSITIONS))
    rows, positions = index.T
    return PatchedRows(
        {
            (site, layer): ((rows, positions), activation(cache, site, layer)[rows, positions])
            for layer in layers
        }
    )


@pytest.mark.parametrize(
    ("architecture", "site"),
    [(name, Site.RESID_POST) for name in ARCHITECTURES]
    + [(name, Site.RESID_MID) for name in SERIAL],
)
def test_a_whole_residual_stream_is_a_whole_run(architecture: str, site: Site) -> None:
    """Closed form: with all positions of one layer patched nothing of the clean run is left."""
    model, some = subject(architecture), prompts()
    metric = metric_of(some)
    clean, corrupted = (metric(full_logits(model, t)) for t in (some.tokens, some.corrupted))
    assert largest_difference(clean, corrupted) > 0.1
    for layer in range(model.n_layers):
        edit = corrupted_everywhere(model, site, [layer], some)
        with torch.no_grad():
            found = some.logit_difference(model.logits(some.tokens, edit))
        assert largest_difference(found, corrupted) < 1e-4


def test_a_row_is_patched_without_touching_the_others() -> None:
    h = torch.zeros((3, N_POSITIONS, D_MODEL))
    value = torch.ones((2, D_MODEL), dtype=torch.float64)
    where = torch.tensor([0, 2]), torch.tensor([4, 1])
    edit = PatchedRows({(Site.ATTN_OUT, 1): (where, value)})
    assert list(edit.points) == [(Site.ATTN_OUT, 1)]
    found = edit(Site.ATTN_OUT, 1, h)
    expected = torch.zeros_like(h)
    expected[0, 4] = expected[2, 1] = 1
    assert torch.equal(found, expected)
    assert torch.all(h == 0)


@pytest.mark.parametrize("kind", [StaticScaling, DynamicScaling])
def test_a_small_scalar_acts_in_bf16(kind: Any) -> None:
    """1 + 0.003 is 1 in bf16; the product with an activation is rounded once, not the factor."""
    grid = a_grid((0, 1, 2, 3, 4, 5, 6))
    intervention = make(kind, grid)
    with torch.no_grad():
        for parameter in intervention.parameters():
            parameter.fill_(0.003)
    h = torch.randn((4, N_POSITIONS, D_MODEL), generator=torch.Generator().manual_seed(4))
    h = h.bfloat16()
    edited = intervention.at(torch.ones(4))(Site.ATTN_OUT, 0, h).detach()
    assert edited.dtype == torch.bfloat16
    assert float((edited != h).float().mean()) > 0.1
    assert torch.equal(intervention.at(torch.zeros(4))(Site.ATTN_OUT, 0, h), h)
